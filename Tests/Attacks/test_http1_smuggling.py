"""Requests that two servers in a row might read differently (RFC 9112, section 11.2): each is refused, and its connection closed."""

import re
from pathlib import Path

import pytest

from support import connect, http, read_to_end

ROOT = Path(__file__).resolve().parents[2]
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def length(value):
    return POST + b"Content-Length: " + value + b"\r\n\r\n1"


def coding(value, body=b"1\r\n1\r\n0\r\n\r\n"):
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + body


# Each request with the status that it must get. Behind each stands a good one, which must not be served.
REFUSED = {
    # Content-Length and Transfer-Encoding together (section 6.1).
    "length, then chunked": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked, then length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "chunked and length 0": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
    "chunked in another case and length": (400, POST + b"content-LENGTH: 3\r\ntransfer-ENCODING: ChUnKeD\r\n\r\n0\r\n\r\n"),
    "a coding in HTTP/1.0": (400, b"POST /v1/channels/{channel} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
    # Content-Length (section 6.3).
    "two different lengths": (400, POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n1"),
    "a list of different lengths": (400, length(b"1, 2")),
    "a list of one length": (400, length(b"1, 1")),
    "the same length twice": (400, POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n1"),
    "a plus": (400, length(b"+1")),
    "a minus": (400, length(b"-1")),
    "an underscore": (400, length(b"1_0")),
    "a space inside": (400, length(b"1 0")),
    "hexadecimal": (400, length(b"0x1")),
    "hexadecimal digits": (400, length(b"a")),
    "an exponent": (400, length(b"1e1")),
    "a decimal point": (400, length(b"1.0")),
    "nothing": (400, length(b"")),
    "a quote": (400, length(b'"1"')),
    "a vertical tab": (400, length(b"\x0b1")),
    "a NUL behind it": (400, length(b"1\x00")),
    "an overflow of 32 bits": (413, length(b"4294967297")),
    "an overflow of 64 bits": (400, length(b"18446744073709551617")),
    "2^63": ({400, 413}, length(b"9223372036854775808")),
    "a hundred digits": (400, length(b"1" * 100)),
    "a body that is too long": (413, length(b"99999999999")),
    "digits of another script": (400, length("١".encode())),
    "a superscript": (400, length("²".encode("latin-1"))),
    # Transfer-Encoding (section 6.1): exactly chunked, once and last.
    "identity": ({400, 501}, coding(b"identity")),
    "gzip": ({400, 501}, coding(b"gzip")),
    "gzip, chunked": (501, coding(b"gzip, chunked")),
    "chunked, gzip": (400, coding(b"chunked, gzip")),
    "chunked, identity": (400, coding(b"chunked, identity")),
    "chunked twice": (400, coding(b"chunked, chunked")),
    "xchunked": (400, coding(b"xchunked")),
    "chunkedx": (400, coding(b"chunkedx")),
    "chunked in quotes": (400, coding(b'"chunked"')),
    "a parameter": (400, coding(b"chunked; a=b")),
    "a comma before": (400, coding(b", chunked")),
    "a comma after": (400, coding(b"chunked,")),
    "no coding": (400, coding(b"")),
    "a vertical tab before": (400, coding(b"\x0bchunked")),
    "a NUL after": (400, coding(b"chunked\x00")),
    "a non-breaking space": (400, coding(b"\xa0chunked")),
    "a dotted i": (400, coding("chunked\u0131".encode())),
    "two fields": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    "two fields alike": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a folded coding": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    # Field lines (section 5).
    "a space before the colon": (400, POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "a space before the colon of the length": (400, POST + b"Content-Length : 1\r\n\r\n1"),
    "a tab before the colon": (400, POST + b"Content-Length\t: 1\r\n\r\n1"),
    "a folded line": (400, GET + b"X: a\r\n b\r\n\r\n"),
    "a folded line by a tab": (400, GET + b"X: a\r\n\tb\r\n\r\n"),
    "a first line that is folded": (400, b"GET /healthz HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
    "a bare CR in a value": (400, GET + b"X: a\rContent-Length: 5\r\n\r\n"),
    "a bare CR as line end": (400, GET + b"X: a\rY: b\r\n\r\n"),
    "a bare LF as line end": (400, GET + b"X: a\nContent-Length: 5\r\n\r\n"),
    "a bare LF ends the head": (400, GET + b"X: a\r\n\n"),
    "only bare LF": (400, b"GET /healthz HTTP/1.1\nHost: a\n\n"),
    "CR CR LF": (400, GET + b"X: a\r\r\n\r\n"),
    "a NUL in a value": (400, GET + b"X: a\x00b\r\n\r\n"),
    "a NUL in a name": (400, GET + b"X\x00: a\r\n\r\n"),
    "a byte of 0x80 in a name": (400, GET + b"X\x80: a\r\n\r\n"),
    "a byte of 0xff in a name": (400, GET + b"\xff: a\r\n\r\n"),
    "a length with a byte of 0xad": (400, POST + b"Content\xadLength: 1\r\n\r\n1"),
    "an empty name": (400, GET + b": a\r\n\r\n"),
    "no colon": (400, GET + b"Content-Length 5\r\n\r\n"),
    "a space in a name": (400, GET + b"X Y: a\r\n\r\n"),
    "a slash in a name": (400, GET + b"X/Y: a\r\n\r\n"),
    "a parenthesis in a name": (400, GET + b"X(Y): a\r\n\r\n"),
    "a control character in a value": (400, GET + b"X: a\x01b\r\n\r\n"),
    "a delete in a value": (400, GET + b"X: a\x7fb\r\n\r\n"),
    "an escape in a value": (400, GET + b"X: \x1b[2J\r\n\r\n"),
    # Chunks (section 7.1).
    "a bare LF behind the size": (400, CHUNKED + b"1\n1\r\n0\r\n\r\n"),
    "a bare LF behind the data": (400, CHUNKED + b"1\r\n1\n0\r\n\r\n"),
    "a bare LF behind the last": (400, CHUNKED + b"1\r\n1\r\n0\n\r\n"),
    "a bare LF at the end": (400, CHUNKED + b"1\r\n1\r\n0\r\n\n"),
    "a bare CR behind the size": (400, CHUNKED + b"1\r1\r\n0\r\n\r\n"),
    "a CR in an extension": (400, CHUNKED + b"1;a=\rb\r\n1\r\n0\r\n\r\n"),
    "a LF in an extension": (400, CHUNKED + b"1;a=\nb\r\n1\r\n0\r\n\r\n"),
    "a NUL in an extension": (400, CHUNKED + b"1;a=\x00\r\n1\r\n0\r\n\r\n"),
    "a size with a sign": (400, CHUNKED + b"+1\r\n1\r\n0\r\n\r\n"),
    "a negative size": (400, CHUNKED + b"-1\r\n1\r\n0\r\n\r\n"),
    "a size with 0x": (400, CHUNKED + b"0x1\r\n1\r\n0\r\n\r\n"),
    "a size with an underscore": (400, CHUNKED + b"0_1\r\n1\r\n0\r\n\r\n"),
    "a space before the size": (400, CHUNKED + b" 1\r\n1\r\n0\r\n\r\n"),
    "a space behind the size": (400, CHUNKED + b"1 \r\n1\r\n0\r\n\r\n"),
    "an empty size": (400, CHUNKED + b"\r\n1\r\n0\r\n\r\n"),
    "a size that is no number": (400, CHUNKED + b"g\r\n1\r\n0\r\n\r\n"),
    "a size over 64 bits": (400, CHUNKED + b"10000000000000001\r\n1\r\n0\r\n\r\n"),
    "a size of 2^64 - 1": ({400, 413}, CHUNKED + b"ffffffffffffffff\r\n1\r\n"),
    "a size over the limit": (413, CHUNKED + b"fffffff\r\n1\r\n"),
    "data longer than its size": (400, CHUNKED + b"1\r\n12\r\n0\r\n\r\n"),
    "extensions without end": (400, CHUNKED + b"1;" + b"a" * 3000 + b"\r\n1\r\n0\r\n\r\n"),
    "a trailer that is a request": (400, CHUNKED + b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    "a trailer with a space": (400, CHUNKED + b"0\r\nX : a\r\n\r\n"),
    "a folded trailer": (400, CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailers without end": (431, CHUNKED + b"0\r\n" + b"X: a\r\n" * 5000 + b"\r\n"),
    # The request line (section 3) and the version (section 2.3).
    "HTTP/0.9": (400, b"GET /healthz\r\n\r\n"),
    "HTTP/2.0": (505, b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/3.0": (505, b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": ({400, 505}, b"GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/1": (400, b"GET /healthz HTTP/1\r\nHost: a\r\n\r\n"),
    "HTTP/1.10": (400, b"GET /healthz HTTP/1.10\r\nHost: a\r\n\r\n"),
    "HTTP/01.1": (400, b"GET /healthz HTTP/01.1\r\nHost: a\r\n\r\n"),
    "http/1.1": (400, b"GET /healthz http/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/1,1": (400, b"GET /healthz HTTP/1,1\r\nHost: a\r\n\r\n"),
    "HTPP/1.1": (400, b"GET /healthz HTPP/1.1\r\nHost: a\r\n\r\n"),
    "a LF in the request line": (400, b"GET /healthz\n HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a CR in the target": (400, b"GET /heal\rthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a LF for a space": (400, b"GET\n/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a tab for a space": (400, b"GET\t/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a space behind the version": (400, b"GET /healthz HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "a space before the method": (400, b" GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target with a space": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target with a NUL": (400, b"GET /a\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target with a byte of 0x80": (400, b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target with a fragment": (400, b"GET /healthz#a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a method that is no token": (400, b"G@T /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a request line without end": (414, b"GET /" + b"x" * 20_000),
    "empty lines without end": (400, b"\r\n" * 100 + GET + b"\r\n"),
    # Host (section 3.2).
    "no Host": (400, b"GET /healthz HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, GET + b"Host: a\r\n\r\n"),
    "two different Hosts": (400, GET + b"Host: b\r\n\r\n"),
    "an empty Host": (400, b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"),
    "a Host with a user": (400, b"GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    "a Host with a path": (400, b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "a Host with a space": (400, b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "a Host with a list": (400, b"GET /healthz HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "a Host with a port too large": (400, b"GET /healthz HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
    "a target of another host": (400, b"GET http://b/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target of another port": (400, b"GET http://a:81/healthz HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "a target with a user": (400, b"GET http://x@a/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target without Host": (400, b"GET http://a/healthz HTTP/1.1\r\n\r\n"),
    # Sizes (section 5.4).
    "101 fields": (431, GET + b"".join(b"N%d: v\r\n" % number for number in range(101)) + b"\r\n"),
    "a field of 20,000 bytes": (431, GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n"),
    "a name of 20,000 bytes": (431, GET + b"x" * 20_000 + b": y\r\n\r\n"),
    "a head without end": (431, GET + b"X: y\r\n" * 5000),
    "a name without end": (431, GET + b"x" * 40_000),
}


def behind(channel):
    return f"POST /v1/channels/{channel}.behind HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1".encode()


def statuses(data):
    """Of the answers in what a server sent, none of which has a body with such a line in it."""
    return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3}) ", data, re.MULTILINE)]


def send(server, data, channel):
    """What comes for the bytes and a good request behind them, and whether the connection ended."""
    with connect(server.port) as raw:
        try:
            raw.sendall(data.replace(b"{channel}", channel.encode()) + behind(channel))
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_to_end(raw, 8)


def published(server, channel):
    with http() as client:
        return [name for name in (channel, f"{channel}.behind") if client.get(f"{server.url}/v1/channels/{name}").status_code != 404]


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused_and_its_connection_closed(server, channel, name):
    status, data = REFUSED[name]
    received, closed = send(server, data, channel)
    assert closed, f"the connection goes on after {statuses(received)}"
    wanted = status if isinstance(status, set) else {status}
    assert len(statuses(received)) == 1 and set(statuses(received)) <= wanted, received[:300]
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nconnection: close" in head, "the answer does not say that the connection is closed"
    assert b"application/problem+json" in head
    assert not published(server, channel), "something was published"


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_also_when_it_comes_in_pieces(server, channel, name):
    """Split where it hurts: in front of each CR and LF, and in the middle."""
    status, data = REFUSED[name]
    data = data.replace(b"{channel}", channel.encode())[:4000] if len(data) < 4000 else None
    if data is None:
        # The long ones are split by the network anyway.
        data = REFUSED[name][1].replace(b"{channel}", channel.encode())
        pieces = [data[at:at + 1000] for at in range(0, len(data), 1000)]
    else:
        pieces = [piece for piece in re.split(rb"(?=[\r\n])", data) if piece]
    with connect(server.port) as raw:
        try:
            for piece in [*pieces, behind(channel)]:
                raw.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received, closed = read_to_end(raw, 8)
    assert closed
    wanted = status if isinstance(status, set) else {status}
    assert set(statuses(received)) <= wanted, received[:300]
    assert not published(server, channel), "something was published"


# What is allowed has to go on: otherwise a server that refuses everything would pass.
SERVED = {
    "a length": POST + b"Content-Length: 1\r\n\r\n1", "a length with zeros before": POST + b"Content-Length: 001\r\n\r\n1",
    "chunks": CHUNKED + b"1\r\n1\r\n0\r\n\r\n", "chunks in another case": POST + b"tRANSFER-eNCODING: CHUNKED\r\n\r\n1\r\n1\r\n0\r\n\r\n",
    "an extension": CHUNKED + b"1;a=b\r\n1\r\n0\r\n\r\n", "a trailer": CHUNKED + b"1\r\n1\r\n0\r\nX: a\r\n\r\n",
    "white space around a value": POST + b"Content-Length:   1  \r\nX:\t a \t\r\n\r\n1",
    "obs-text in a value": POST + b"X: \xe9\r\nContent-Length: 1\r\n\r\n1",
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_allowed_is_served_and_the_request_behind_it_too(server, channel, name):
    with connect(server.port) as raw:
        raw.sendall(SERVED[name].replace(b"{channel}", channel.encode()) + behind(channel) + GET + b"Connection: close\r\n\r\n")
        received, closed = read_to_end(raw, 8)
    assert closed and statuses(received) == [201, 201, 200], received[:500]
    assert published(server, channel) == [channel, f"{channel}.behind"]


# The cases of the parser's own tests, through the whole server.
CASES = sorted((ROOT / "Fixtures/HTTP1/requests/reject").glob("*.http"))
# They begin as another protocol does, and are no HTTP/1.1 on this port.
OTHER_PROTOCOLS = {"http2-preface"}


def test_there_are_cases():
    assert len(CASES) > 150


@pytest.mark.parametrize("case", [case for case in CASES if case.stem not in OTHER_PROTOCOLS], ids=lambda case: case.stem)
def test_what_the_parser_refuses_the_server_refuses(server, case):
    events = case.with_suffix(".events").read_text(encoding="latin-1").splitlines()
    status = int(re.fullmatch(r"fault (\d+) \S+", events[-1])[1])
    with connect(server.port) as raw:
        try:
            raw.sendall(case.read_bytes())
            raw.shutdown(1)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        received, closed = read_to_end(raw, 8)
    assert closed and statuses(received)[-1:] == [status], received[-400:]
