"""Sections 7 and 8 of h2spec's `http2` suite: unknown error codes, and requests that are malformed."""

from __future__ import annotations

from . import expect, wire
from .case import case
from .connection import Connection
from .wire import ErrorCode

UNKNOWN_CODE = 0xFF

# 7. Error codes


@case("http2/7/1", "Sends a GOAWAY frame with unknown error code", "RFC 9113, 7")
def http2_7_1(conn: Connection) -> str:
    conn.send(wire.goaway(0, UNKNOWN_CODE), wire.ping(b"h2spec\0\0"))
    return expect.ping_ack_or_close(conn, b"h2spec\0\0")


@case("http2/7/2", "Sends a RST_STREAM frame with unknown error code", "RFC 9113, 7")
def http2_7_2(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.rst_stream(1, UNKNOWN_CODE), wire.ping())
    return expect.ping_ack(conn)


# 8. HTTP message exchanges


def is_malformed(conn: Connection, fields: list[tuple[str, str]]) -> str:
    """A request of these fields alone is a stream error (RFC 9113, 8.1.1)."""
    conn.send(wire.headers(1, conn.block(fields)))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


def second_headers_are_malformed(conn: Connection, fields: list[tuple[str, str]]) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"test"), wire.headers(1, conn.block(fields), end_stream=False))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/8.1/1", "Sends a second HEADERS frame without the END_STREAM flag", "RFC 9113, 8.1")
def http2_8_1_1(conn: Connection) -> str:
    return second_headers_are_malformed(conn, [("x-test", "ok")])


@case("http2/8.1.2/1", "Sends a HEADERS frame that contains the header field name in uppercase letters", "RFC 9113, 8.2.1")
def http2_8_1_2_1(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields() + [("X-TEST", "ok")])


@case("http2/8.1.2.1/1", "Sends a HEADERS frame that contains a unknown pseudo-header field", "RFC 9113, 8.3")
def http2_8_1_2_1_1(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields() + [(":test", "ok")])


@case("http2/8.1.2.1/2", "Sends a HEADERS frame that contains the pseudo-header field defined for response", "RFC 9113, 8.3")
def http2_8_1_2_1_2(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields() + [(":status", "200")])


@case("http2/8.1.2.1/3", "Sends a HEADERS frame that contains a pseudo-header field as trailers", "RFC 9113, 8.3")
def http2_8_1_2_1_3(conn: Connection) -> str:
    return second_headers_are_malformed(conn, [(":method", "POST")])


@case(
    "http2/8.1.2.1/4",
    "Sends a HEADERS frame that contains a pseudo-header field that appears in a header block after a regular header field",
    "RFC 9113, 8.3",
)
def http2_8_1_2_1_4(conn: Connection) -> str:
    return is_malformed(conn, [("x-test", "ok")] + conn.target.fields())


@case("http2/8.1.2.2/1", "Sends a HEADERS frame that contains the connection-specific header field", "RFC 9113, 8.2.2")
def http2_8_1_2_2_1(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields() + [("connection", "keep-alive")])


@case(
    "http2/8.1.2.2/2",
    'Sends a HEADERS frame that contains the TE header field with any value other than "trailers"',
    "RFC 9113, 8.2.2",
)
def http2_8_1_2_2_2(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields() + [("trailers", "test"), ("te", "trailers, deflate")])


@case("http2/8.1.2.3/1", 'Sends a HEADERS frame with empty ":path" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_1(conn: Connection) -> str:
    return is_malformed(conn, conn.target.fields(path=""))


def without(conn: Connection, name: str) -> str:
    return is_malformed(conn, [field for field in conn.target.fields() if field[0] != name])


def doubled(conn: Connection, name: str) -> str:
    fields = conn.target.fields()
    return is_malformed(conn, fields + [field for field in fields if field[0] == name])


@case("http2/8.1.2.3/2", 'Sends a HEADERS frame that omits ":method" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_2(conn: Connection) -> str:
    return without(conn, ":method")


@case("http2/8.1.2.3/3", 'Sends a HEADERS frame that omits ":scheme" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_3(conn: Connection) -> str:
    return without(conn, ":scheme")


@case("http2/8.1.2.3/4", 'Sends a HEADERS frame that omits ":path" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_4(conn: Connection) -> str:
    return without(conn, ":path")


@case("http2/8.1.2.3/5", 'Sends a HEADERS frame with duplicated ":method" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_5(conn: Connection) -> str:
    return doubled(conn, ":method")


@case("http2/8.1.2.3/6", 'Sends a HEADERS frame with duplicated ":scheme" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_6(conn: Connection) -> str:
    return doubled(conn, ":scheme")


@case("http2/8.1.2.3/7", 'Sends a HEADERS frame with duplicated ":path" pseudo-header field', "RFC 9113, 8.3.1")
def http2_8_1_2_3_7(conn: Connection) -> str:
    return doubled(conn, ":path")


@case(
    "http2/8.1.2.6/1",
    'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length',
    "RFC 9113, 8.1.1",
)
def http2_8_1_2_6_1(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False, extra=[("content-length", "1")])
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


@case(
    "http2/8.1.2.6/2",
    'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length',
    "RFC 9113, 8.1.1",
)
def http2_8_1_2_6_2(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False, extra=[("content-length", "1")])
    conn.send(wire.data(1, b"test"), wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/8.2/1", "Sends a PUSH_PROMISE frame", "RFC 9113, 8.4")
def http2_8_2_1(conn: Connection) -> str:
    conn.send(wire.push_promise(1, 3, conn.block(conn.target.fields())))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)
