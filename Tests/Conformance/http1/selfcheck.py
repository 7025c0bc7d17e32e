"""Shows that the comparison can fail: every way in which two readings can part is noticed, and none is explained away."""

from copy import deepcopy

from .compare import ALL, Case, differences, explain
from .readings import Reading, Request

DATA = b"POST /p HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _reading(host: bool) -> Reading:
    """Of `DATA`: Tocsin's, which has Host in `authority`, or another parser's."""
    hosts = [("host", b"a")] if host else []
    first = Request("POST", "/p", "1.1", hosts + [("x", b"y"), ("content-length", b"2")], b"ab", authority=None if host else "a")
    second = Request("GET", "/", "1.1", list(hosts), authority=None if host else "a")
    return Reading([first, second])


def _altered() -> dict[str, Reading]:
    """The other parser's reading with one thing wrong."""
    readings = {}

    def add(name: str) -> Reading:
        readings[name] = _reading(host=True)
        return readings[name]

    add("another method").requests[0].method = "GET"
    add("another target").requests[0].target = "/q"
    add("another authority").requests[0].target = "http://b/p"
    add("another Host").requests[0].headers[0] = ("host", b"b")
    add("a second Host").requests[0].headers.append(("host", b"b"))
    add("another version").requests[0].version = "1.0"
    add("another value").requests[0].headers[1] = ("x", b"z")
    add("another name").requests[0].headers[1] = ("y", b"y")
    add("a field less").requests[0].headers.pop()
    add("another body").requests[0].body = b"ac"
    add("a longer body").requests[0].body = b"abG"
    add("no body").requests[0].body = b""
    add("a connection that ends").requests[0].keep_alive = False
    add("a request less").requests.pop()
    add("a request more").requests.append(_reading(host=True).requests[1])
    add("a part more").partial = _reading(host=True).requests[1]
    add("an end that is none").end = "incomplete"
    add("an error at the end").end = "refused: something"
    reading = add("an error before the end")
    reading.requests.pop()
    reading.end = "refused: something"
    return readings


def failures() -> list[str]:
    """What goes by unnoticed, or is held to be known."""
    ours = _reading(host=False)
    found = [f"the same reading differs: {each}" for each in differences(ours, _reading(host=True))]
    for what, theirs in _altered().items():
        for name in ALL:
            cases = [Case(name, DATA, ours, deepcopy(theirs), each) for each in differences(ours, theirs)]
            if not cases or any(explain(case) for case in cases):
                found.append(f"{what} goes by unnoticed for {name}")
    return found
