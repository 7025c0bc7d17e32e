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

ALL = ("nio", "h11", "httptools")
LLHTTP = ("nio", "httptools")
# What llhttp knows of the methods in the corpus; any other it refuses.
LLHTTP_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "M-SEARCH", "QUERY"}


@dataclass
class Difference:
    # Of: requests, method, target, authority, hosts, version, headers, body, keep-alive, end.
    what: str
    # Tocsin's value and the other parser's.
    ours: object
    theirs: object
    # Tocsin's request that differs, or the last one before the place where the readings part.
    request: Request | None
    index: int


def differences(ours: Reading, theirs: Reading) -> list[Difference]:
    """All differences, as far as the two readings can be laid side by side."""
    found: list[Difference] = []
    for index, request in enumerate(ours.requests):
        if index >= len(theirs.requests):
            return found + [Difference("requests", len(ours.requests), _state(theirs), request, index)]
        found += _request_differences(request, theirs.requests[index], index)
        if not request.keep_alive or not theirs.requests[index].keep_alive:
            # One of them reads no more, and that it is one only has been noted.
            return found
    if ours.refused:
        return found
    count = len(ours.requests)
    place = ours.partial or (ours.requests[-1] if count else None)
    if len(theirs.requests) > count:
        return found + [Difference("requests", count, _state(theirs), place, count)]
    if ours.partial and theirs.partial:
        # h11 says at the end of a request only whether the connection goes on.
        found += [each for each in _request_differences(ours.partial, theirs.partial, count) if each.what != "keep-alive"]
    elif not ours.partial and ours.end == "incomplete" and theirs.refused:
        return found
    if ours.end != theirs.end or bool(ours.partial) != bool(theirs.partial):
        found.append(Difference("end", _state(ours), _state(theirs), place, count))
    return found


def _state(reading: Reading) -> str:
    partial = " and a part" if reading.partial else ""
    return f"{len(reading.requests)} requests{partial}, {reading.end}"


def _request_differences(ours: Request, theirs: Request, index: int) -> list[Difference]:
    authority, target = _split_target(theirs)
    hosts = [value.strip(b" \t").decode("latin-1") for name, value in theirs.headers if name == "host"]
    if authority is None and hosts:
        authority = hosts[0]
    values = [
        ("method", ours.method, theirs.method),
        ("target", ours.target, target),
        ("authority", ours.authority, authority),
        ("hosts", True, len(hosts) <= 1 and all(host.lower() == (authority or "").lower() for host in hosts)),
        ("version", ours.version, theirs.version),
        ("headers", _fields(ours), _fields(theirs)),
        ("keep-alive", ours.keep_alive, theirs.keep_alive),
        ("body", ours.body, theirs.body),
    ]
    return [Difference(what, left, right, ours, index) for what, left, right in values if left != right]


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
    def stopped(self) -> bool:
        """The other parser read nothing behind its last request, and has no complaint."""
        return self.theirs.end == "complete" and self.found.what in ("requests", "end") and len(self.theirs.requests) == self.found.index

    def values(self, name: str) -> list[bytes]:
        """Of a field of the request that differs."""
        return [value for each, value in self.found.request.headers if each == name] if self.found.request else []


@dataclass
class Known:
    name: str
    reason: str
    parsers: tuple[str, ...]
    matches: Callable[[Case], bool]


def explain(case: Case) -> Known | None:
    return next((known for known in KNOWN if case.name in known.parsers and known.matches(case)), None)


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def _asks_for_upgrade(request: Request | None) -> bool:
    names = {name for name, _ in request.headers} if request else set()
    return "upgrade" in names and b"upgrade" in _tokens([value for name, value in request.headers if name == "connection"])


def _has_trailer(data: bytes, names: bytes) -> bool:
    return re.search(rb"\r\n0+(;[^\r\n]*)?\r\n([^\r\n]+\r\n)*(%s):" % names, data, re.IGNORECASE) is not None


def _known_method(case: Case) -> bool:
    return case.found.request is not None and case.found.request.method in LLHTTP_METHODS


def _headers_equal(case: Case, change: Callable[[str, bytes], bytes]) -> bool:
    """Whether the fields are the same once the values of Tocsin's are changed so."""
    return case.found.what == "headers" and [(name, change(name, value)) for name, value in case.found.ours] == case.found.theirs


def _closes_more(case: Case) -> bool:
    return case.found.what == "keep-alive" and not case.found.ours


KNOWN: list[Known] = [
    Known(
        "CONNECT ends the connection",
        "what follows it may be meant for a tunnel (RFC 9931 section 8); the parsers leave that to the server",
        ALL,
        lambda case: _closes_more(case) and case.found.request.method == "CONNECT",
    ),
    Known(
        "empty line first",
        "h11 refuses one empty line before a request, which RFC 9112 section 2.2 has a server pass over",
        ("h11",),
        lambda case: case.refused_more and case.theirs.end == "refused: no request line received",
    ),
    Known(
        "HTTP/1.0 keep-alive",
        "h11 ends every HTTP/1.0 connection; RFC 9112 section 9.3 lets a server keep it when asked",
        ("h11",),
        lambda case: case.found.what == "keep-alive" and case.found.ours and case.found.request.version == "1.0"
        and b"keep-alive" in _tokens(case.values("connection")),
    ),
    Known(
        "Transfer-Encoding in lower case",
        "h11 gives its value in lower case; it is the same coding",
        ("h11",),
        lambda case: _headers_equal(case, lambda name, value: value.lower() if name == "transfer-encoding" else value),
    ),
    Known(
        "method unknown to llhttp",
        "llhttp refuses a method that is not in its list; RFC 9110 section 9.1 makes any token a method, and the router answers 405",
        LLHTTP,
        lambda case: case.found.what in ("requests", "end") and len(case.theirs.requests) == case.found.index
        and (case.theirs.refused or case.found.request and case.found.request.method == "PRI") and not _known_method(case),
    ),
    Known(
        "M-SEARCH is spelled MSEARCH",
        "NIO has an own name for it",
        ("nio",),
        lambda case: (case.found.what, case.found.ours, case.found.theirs) == ("method", "M-SEARCH", "MSEARCH"),
    ),
    Known(
        "values that are not UTF-8",
        "NIO's are strings, with U+FFFD for what is not UTF-8; Tocsin keeps the bytes",
        ("nio",),
        lambda case: _headers_equal(case, lambda name, value: value.decode("utf-8", "replace").encode()),
    ),
    Known(
        "framing field in trailers",
        "read as if it stood in the head, and refused, by h11 only if it is wrong; Tocsin drops all trailers (RFC 9110 section 6.5.1)",
        ALL,
        lambda case: case.refused_more and case.theirs.partial is not None and _tokens(case.values("transfer-encoding")) == {b"chunked"}
        and re.search("content-length|transfer-encoding|unknown", case.theirs.end, re.IGNORECASE) is not None
        and _has_trailer(case.data, b"content-length|transfer-encoding"),
    ),
    Known(
        "Connection in trailers",
        "llhttp reads it as if it stood in the head, and closes; Tocsin drops all trailers (RFC 9110 section 6.5.1)",
        LLHTTP,
        lambda case: case.refused_more and _has_trailer(case.data, b"connection|proxy-connection")
        and ("Data after `Connection: close`" in case.theirs.end or "data received after completed connection" in case.theirs.end),
    ),
    Known(
        "nothing behind an upgrade",
        "llhttp leaves what follows to the other protocol; Tocsin reads it as HTTP if it does not change over (RFC 9110 section 7.8)",
        LLHTTP,
        lambda case: case.stopped and case.theirs.requests != [] and _asks_for_upgrade(case.theirs.requests[-1]),
    ),
    Known(
        "no content with an upgrade",
        "httptools takes it for the other protocol's; RFC 9110 section 7.8 has the request end first, and HTTP clients do send it with h2c",
        ("httptools",),
        lambda case: _asks_for_upgrade(case.found.request) and (
            (case.found.what, case.found.theirs) == ("body", b"")
            # Tocsin waits for it.
            or case.found.what == "requests" and case.ours.partial is case.found.request and case.theirs.end == "complete"
            and len(case.theirs.requests) == case.found.index + 1 and case.theirs.requests[-1].body == b""
        ),
    ),
    Known(
        "half an empty line at the end",
        "llhttp passes over CR and LF one by one before a request; Tocsin waits for the LF",
        LLHTTP,
        lambda case: case.stopped and case.ours.end == "incomplete" and case.ours.partial is None and case.data.endswith(b"\r"),
    ),
    Known(
        "HTTP/1.0 with close and keep-alive",
        "llhttp keeps the connection; RFC 9112 section 9.3 has close win",
        LLHTTP,
        lambda case: _closes_more(case) and case.found.request.version == "1.0"
        and _tokens(case.values("connection")) >= {b"close", b"keep-alive"},
    ),
    Known(
        "tab behind a connection option",
        "llhttp does not know the option then; RFC 9110 section 5.6.1.2 has whitespace around an element left out, and a tab is that",
        LLHTTP,
        lambda case: case.found.what == "keep-alive"
        and re.search(rb"connection:.*%s *\t" % (b"keep-alive" if case.found.ours else b"close"), case.data, re.IGNORECASE) is not None,
    ),
    Known(
        "Proxy-Connection",
        "llhttp takes it for Connection; it is in no standard, and says nothing about where a request ends",
        LLHTTP,
        lambda case: case.found.what == "keep-alive" and case.found.ours and b"close" in _tokens(case.values("proxy-connection")),
    ),
]
