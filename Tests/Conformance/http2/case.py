"""The table of cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .connection import Connection

Body = Callable[[Connection], str | None]


@dataclass(frozen=True)
class Case:
    id: str
    title: str
    source: str
    # The prefaces have been exchanged when the case starts.
    handshake: bool
    body: Body

    @property
    def suite(self) -> str:
        return self.id.split("/")[0]

    def is_within(self, wanted: str) -> bool:
        """`http2` and `http2/6.5` hold `http2/6.5/1` and `http2/6.5.2/1`; `http2/6` does not hold a section 60."""
        return self.id == wanted or (self.id.startswith(wanted) and self.id[len(wanted)] in "/.")


CASES: dict[str, Case] = {}


def case(id: str, title: str, source: str, handshake: bool = True) -> Callable[[Body], Body]:
    """Enters a function into the table. It returns what it saw, and raises `Unmet` if that is not what it expects."""

    def enter(body: Body) -> Body:
        assert id not in CASES, f"two cases have the number {id}"
        CASES[id] = Case(id, title, source, handshake, body)
        return body

    return enter
