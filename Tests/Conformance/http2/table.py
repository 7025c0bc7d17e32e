"""All cases, in h2spec's order: the order in which their modules are imported."""

from __future__ import annotations

from . import generic, starting, streams, definitions, messages, compression, rfc8441
from .case import CASES, Case
from .connection import Connection, Target, Unmet

MODULES = (generic, starting, streams, definitions, messages, compression, rfc8441)

__all__ = ["CASES", "Case", "Target", "run"]


def run(case: Case, target: Target) -> tuple[bool, str]:
    """Whether the case passed, and what was seen."""
    try:
        with Connection(target) as conn:
            if case.handshake:
                conn.handshake()
            return True, case.body(conn) or ""
    except Unmet as unmet:
        return False, str(unmet)
    except OSError as error:
        return False, f"no connection: {error}"
    except Exception as error:
        return False, f"the case is broken: {error!r}"
