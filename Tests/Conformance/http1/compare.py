"""Compares what Tocsin reads with what another parser reads in the same bytes.

The rule: whatever Tocsin accepts, every other parser reads the same way. What Tocsin refuses, others may read as they like. A request
whose head has not come whole has not been accepted, so another parser may have refused it already.

Parsers that are right differ all the same, mostly because they refuse more. Each such difference stands in `KNOWN`, as narrow as it can
be said. Anything else is a fault of Tocsin's, or has to be understood and added.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from .readings import Reading, Request

LLHTTP = ("nio", "httptools")
# What llhttp knows of the methods in the corpus; any other it refuses.
LLHTTP_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "M-SEARCH", "QUERY"}


@dataclass
class Difference:
    # Of: requests, method, target, authority, version, headers, body, keep-alive, end.
    what: str
    # Tocsin's value and the other parser's.
    ours: object
    theirs: object
    # Tocsin's request that differs, or the last one before the place where the readings part.
    request: Request | None
    index: int


def difference(ours: Reading, theirs: Reading) -> Difference | None:
    """The first difference, or None."""
    for index, request in enumerate(ours.requests):
        if index >= len(theirs.requests):
            return Difference("requests", len(ours.requests), _state(theirs), request, index)
        found = _request_difference(request, theirs.requests[index], index)
        if found:
            return found
    last = ours.requests[-1] if ours.requests else None
    count = len(ours.requests)
    if ours.refused or last and not last.keep_alive:
        return None
    if len(theirs.requests) > count:
        return Difference("requests", count, _state(theirs), ours.partial or last, count)
    if ours.partial:
        if theirs.partial is None:
            return Difference("end", _state(ours), _state(theirs), ours.partial, count)
        found = _request_difference(ours.partial, theirs.partial, count)
        if found:
            return found
    elif ours.end == "incomplete" and theirs.refused:
        return None
    if ours.end != theirs.end:
        return Difference("end", _state(ours), _state(theirs), ours.partial or last, count)
    return None


def _state(reading: Reading) -> str:
    partial = " and a part" if reading.partial else ""
    return f"{len(reading.requests)} requests{partial}, {reading.end}"


def _request_difference(ours: Request, theirs: Request, index: int) -> Difference | None:
    authority, target = _split_target(theirs)
    hosts = [value.strip(b" \t").decode("latin-1") for name, value in theirs.headers if name == "host"]
    if authority is None and hosts:
        authority = hosts[0]
    values = [
        ("method", ours.method, theirs.method),
        ("target", ours.target, target),
        ("authority", ours.authority, authority),
        ("authority", True, len(hosts) <= 1 and all(host.lower() == (authority or "").lower() for host in hosts)),
        ("version", ours.version, theirs.version),
        ("headers", _fields(ours), _fields(theirs)),
        ("keep-alive", ours.keep_alive, theirs.keep_alive),
        ("body", ours.body, theirs.body),
    ]
    for what, left, right in values:
        if left != right:
            return Difference(what, left, right, ours, index)
    return None


def _split_target(request: Request) -> tuple[str | None, str]:
    """Authority and path of an absolute target, as RFC 9112 section 3.2.2 has a server read it; other targets as they are."""
    if request.method == "CONNECT":
        return request.target, request.target
    match = re.fullmatch(r"https?://([^/?]*)(.*)", request.target, re.IGNORECASE)
    if not match:
        return None, request.target
    authority, path = match.groups()
    if not path:
        return authority, "*" if request.method == "OPTIONS" else "/"
    return authority, path if path.startswith("/") else "/" + path


def _fields(request: Request) -> list[tuple[str, bytes]]:
    return [(name, value.strip(b" \t")) for name, value in request.headers if name != "host"]


# MARK: what is known and harmless


@dataclass
class Case:
    """A difference, and all that is known where it is judged."""

    name: str
    data: bytes
    ours: Reading
    theirs: Reading
    found: Difference

    @property
    def refused_more(self) -> bool:
        """The other parser stopped with an error where Tocsin read on, and had read the same until there."""
        return self.theirs.refused and self.found.what in ("requests", "end") and len(self.theirs.requests) == self.found.index

    @property
    def why(self) -> str:
        return self.theirs.end.removeprefix("refused: ")

    def field(self, name: str) -> bytes:
        """All values of a field in the request that differs."""
        request = self.found.request
        return b", ".join(value for each, value in request.headers if each == name) if request else b""


@dataclass
class Known:
    name: str
    reason: str
    parsers: tuple[str, ...]
    matches: Callable[[Case], bool]


KNOWN: list[Known] = []


def explain(case: Case) -> Known | None:
    return next((known for known in KNOWN if case.name in known.parsers and known.matches(case)), None)
