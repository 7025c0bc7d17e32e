"""The `generic` suite of h2spec: what any HTTP/2 server does when nothing is wrong."""

from __future__ import annotations

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hyperframe import frame as frames

from . import expect, wire
from .case import case
from .connection import Connection, Unmet, describe
from .wire import ErrorCode, Setting

PING = b"h2spec\0\0"


def server_preface(conn: Connection) -> str:
    conn.send(wire.PREFACE, wire.settings((Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_DEFAULT)))
    event = conn.next_event()
    if not isinstance(event, frames.SettingsFrame) or "ACK" in event.flags:
        raise Unmet(f"expected SETTINGS without ACK first; got {describe(event)}")
    return describe(event)


@case("generic/1/1", "Sends a client connection preface", "RFC 9113, 3.4", handshake=False)
def generic_1_1(conn: Connection) -> str:
    return server_preface(conn)


# 2. Streams and multiplexing


@case("generic/2/1", "Sends a PRIORITY frame on idle stream", "RFC 9113, 5.1")
def generic_2_1(conn: Connection) -> str:
    conn.send(wire.priority(1), wire.ping())
    return expect.ping_ack(conn)


@case("generic/2/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream", "RFC 9113, 5.1")
def generic_2_2(conn: Connection) -> str:
    # Without a window the answer cannot end before the frame comes.
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    conn.request()
    conn.send(wire.window_update(1, 1))
    return expect.data_of(conn)


@case("generic/2/3", "Sends a PRIORITY frame on half-closed (remote) stream", "RFC 9113, 5.1")
def generic_2_3(conn: Connection) -> str:
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    conn.request()
    conn.send(wire.priority(1), wire.window_update(1, 1))
    return expect.data_of(conn)


@case("generic/2/4", "Sends a RST_STREAM frame on half-closed (remote) stream", "RFC 9113, 5.1")
def generic_2_4(conn: Connection) -> str:
    conn.request()
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL), wire.ping())
    return expect.ping_ack(conn)


@case("generic/2/5", "Sends a PRIORITY frame on closed stream", "RFC 9113, 5.1")
def generic_2_5(conn: Connection) -> str:
    conn.request()
    expect.stream_close(conn)
    conn.send(wire.priority(1), wire.ping())
    return expect.ping_ack(conn)


# 3. Frame definitions


@case("generic/3.1/1", "Sends a DATA frame", "RFC 9113, 6.1")
def generic_3_1_1(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.answer(conn)


@case("generic/3.1/2", "Sends multiple DATA frames", "RFC 9113, 6.1")
def generic_3_1_2(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"test"), wire.data(1, b"test", end_stream=True))
    return expect.answer(conn)


@case("generic/3.1/3", "Sends a DATA frame with padding", "RFC 9113, 6.1")
def generic_3_1_3(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"test", end_stream=True, padding=5))
    return expect.answer(conn)


@case("generic/3.2/1", "Sends a HEADERS frame", "RFC 9113, 6.2")
def generic_3_2_1(conn: Connection) -> str:
    conn.request()
    return expect.answer(conn)


@case("generic/3.2/2", "Sends a HEADERS frame with padding", "RFC 9113, 6.2")
def generic_3_2_2(conn: Connection) -> str:
    conn.send(wire.headers(1, conn.block(conn.target.fields()), padding=8))
    return expect.answer(conn)


@case("generic/3.2/3", "Sends a HEADERS frame with priority", "RFC 9113, 6.2")
def generic_3_2_3(conn: Connection) -> str:
    conn.send(wire.headers(1, conn.block(conn.target.fields()), priority=wire.priority_fields()))
    return expect.answer(conn)


@case("generic/3.3/1", "Sends a PRIORITY frame with priority 1", "RFC 9113, 6.3")
def generic_3_3_1(conn: Connection) -> str:
    conn.send(wire.priority(1, weight=0))
    conn.request()
    return expect.answer(conn)


@case("generic/3.3/2", "Sends a PRIORITY frame with priority 256", "RFC 9113, 6.3")
def generic_3_3_2(conn: Connection) -> str:
    conn.send(wire.priority(1, weight=255))
    conn.request()
    return expect.answer(conn)


@case("generic/3.3/3", "Sends a PRIORITY frame with stream dependency", "RFC 9113, 6.3")
def generic_3_3_3(conn: Connection) -> str:
    conn.send(wire.priority(3, depends_on=1, weight=0))
    conn.request()
    return expect.answer(conn)


@case("generic/3.3/4", "Sends a PRIORITY frame with exclusive", "RFC 9113, 6.3")
def generic_3_3_4(conn: Connection) -> str:
    conn.send(wire.priority(1, exclusive=True, weight=0))
    conn.request()
    return expect.answer(conn)


@case(
    "generic/3.3/5",
    "Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID",
    "RFC 9113, 6.3",
)
def generic_3_3_5(conn: Connection) -> str:
    conn.send(wire.priority(3))
    conn.request()
    return expect.answer(conn)


@case("generic/3.4/1", "Sends a RST_STREAM frame", "RFC 9113, 6.4")
def generic_3_4_1(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL), wire.ping())
    return expect.ping_ack(conn)


@case("generic/3.5/1", "Sends a SETTINGS frame", "RFC 9113, 6.5")
def generic_3_5_1(conn: Connection) -> str:
    conn.send(
        wire.settings(
            (Setting.HEADER_TABLE_SIZE, 4096),
            (Setting.ENABLE_PUSH, 1),
            (Setting.MAX_CONCURRENT_STREAMS, 100),
            (Setting.INITIAL_WINDOW_SIZE, 65535),
            (Setting.MAX_FRAME_SIZE, 16384),
            (Setting.MAX_HEADER_LIST_SIZE, 100),
        )
    )
    return expect.settings_ack(conn)


@case("generic/3.7/1", "Sends a PING frame", "RFC 9113, 6.7")
def generic_3_7_1(conn: Connection) -> str:
    conn.send(wire.ping(PING))
    return expect.ping_ack(conn, PING)


@case("generic/3.8/1", "Sends a GOAWAY frame", "RFC 9113, 6.8")
def generic_3_8_1(conn: Connection) -> str:
    conn.send(wire.goaway(0, ErrorCode.NO_ERROR, b"h2spec"), wire.ping(PING))
    return expect.ping_ack_or_close(conn, PING)


@case("generic/3.9/1", "Sends a WINDOW_UPDATE frame with stream ID 0", "RFC 9113, 6.9")
def generic_3_9_1(conn: Connection) -> str:
    conn.send(wire.window_update(0, 1), wire.ping())
    return expect.ping_ack(conn)


@case("generic/3.9/2", "Sends a WINDOW_UPDATE frame with stream ID 1", "RFC 9113, 6.9")
def generic_3_9_2(conn: Connection) -> str:
    conn.request()
    conn.send(wire.window_update(1, 1))
    return expect.answer(conn)


@case("generic/3.10/1", "Sends a CONTINUATION frame", "RFC 9113, 6.10")
def generic_3_10_1(conn: Connection) -> str:
    block = conn.block(conn.target.fields())
    conn.send(wire.headers(1, block[:5], end_headers=False), wire.continuation(1, block[5:]))
    return expect.answer(conn)


@case("generic/3.10/2", "Sends multiple CONTINUATION frames", "RFC 9113, 6.10")
def generic_3_10_2(conn: Connection) -> str:
    block = conn.block(conn.target.fields())
    conn.send(
        wire.headers(1, block[:5], end_headers=False),
        wire.continuation(1, block[5:10], end_headers=False),
        wire.continuation(1, block[10:]),
    )
    return expect.answer(conn)


# 4. HTTP message exchanges


@case("generic/4/1", "Sends a GET request", "RFC 9113, 8.1")
def generic_4_1(conn: Connection) -> str:
    conn.request()
    return expect.answer(conn)


@case("generic/4/2", "Sends a HEAD request", "RFC 9113, 8.1")
def generic_4_2(conn: Connection) -> str:
    conn.request(method="HEAD")
    return expect.answer(conn)


@case("generic/4/3", "Sends a POST request", "RFC 9113, 8.1")
def generic_4_3(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.answer(conn)


@case("generic/4/4", "Sends a POST request with trailers", "RFC 9113, 8.1")
def generic_4_4(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False, extra=[("trailer", "x-test")])
    conn.send(wire.data(1, b"test"), wire.headers(1, conn.block([("x-test", "ok")])))
    return expect.answer(conn)


# 5. HPACK. Each case adds one more field, in one of the representations of RFC 7541, 6, to a request. In some of these h2spec sends a
# new name where its title says an indexed one, or Huffman coding where it does not; here the titles are right.

USER_AGENT = 58  # of the static table
INCREMENTAL = (6, 0x40)  # bits of the index, and the pattern before them
WITHOUT = (4, 0x00)
NEVER = (4, 0x10)


def string(text: bytes, huffman: bool) -> bytes:
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text) if huffman else text
    length = encode_integer(len(coded), 7)
    length[0] |= 0x80 if huffman else 0
    return bytes(length) + coded


def literal(kind: tuple[int, int], huffman: bool, index: int = 0) -> bytes:
    """`user-agent: h2spec` by its index, or `x-test: h2spec` if the index is 0."""
    bits, pattern = kind
    head = encode_integer(index, bits)
    head[0] |= pattern
    name = b"" if index else string(b"x-test", huffman)
    return bytes(head) + name + string(b"h2spec", huffman)


def accepts(conn: Connection, field: bytes) -> str:
    conn.send(wire.headers(1, conn.block(conn.target.fields()) + field))
    return expect.answer(conn)


@case("generic/5/1", "Sends a indexed header field representation", "RFC 7541, 6.1")
def generic_5_1(conn: Connection) -> str:
    return accepts(conn, bytes([0x80 | USER_AGENT]))


@case("generic/5/2", "Sends a literal header field with incremental indexing - indexed name", "RFC 7541, 6.2.1")
def generic_5_2(conn: Connection) -> str:
    return accepts(conn, literal(INCREMENTAL, huffman=False, index=USER_AGENT))


@case(
    "generic/5/3",
    "Sends a literal header field with incremental indexing - indexed name (with Huffman coding)",
    "RFC 7541, 6.2.1",
)
def generic_5_3(conn: Connection) -> str:
    return accepts(conn, literal(INCREMENTAL, huffman=True, index=USER_AGENT))


@case("generic/5/4", "Sends a literal header field with incremental indexing - new name", "RFC 7541, 6.2.1")
def generic_5_4(conn: Connection) -> str:
    return accepts(conn, literal(INCREMENTAL, huffman=False))


@case("generic/5/5", "Sends a literal header field with incremental indexing - new name (with Huffman coding)", "RFC 7541, 6.2.1")
def generic_5_5(conn: Connection) -> str:
    return accepts(conn, literal(INCREMENTAL, huffman=True))


@case("generic/5/6", "Sends a literal header field without indexing - indexed name", "RFC 7541, 6.2.2")
def generic_5_6(conn: Connection) -> str:
    return accepts(conn, literal(WITHOUT, huffman=False, index=USER_AGENT))


@case("generic/5/7", "Sends a literal header field without indexing - indexed name (with Huffman coding)", "RFC 7541, 6.2.2")
def generic_5_7(conn: Connection) -> str:
    return accepts(conn, literal(WITHOUT, huffman=True, index=USER_AGENT))


@case("generic/5/8", "Sends a literal header field without indexing - new name", "RFC 7541, 6.2.2")
def generic_5_8(conn: Connection) -> str:
    return accepts(conn, literal(WITHOUT, huffman=False))


@case("generic/5/9", "Sends a literal header field without indexing - new name (huffman encoded)", "RFC 7541, 6.2.2")
def generic_5_9(conn: Connection) -> str:
    return accepts(conn, literal(WITHOUT, huffman=True))


@case("generic/5/10", "Sends a literal header field never indexed - indexed name", "RFC 7541, 6.2.3")
def generic_5_10(conn: Connection) -> str:
    return accepts(conn, literal(NEVER, huffman=False, index=USER_AGENT))


@case("generic/5/11", "Sends a literal header field never indexed - indexed name (huffman encoded)", "RFC 7541, 6.2.3")
def generic_5_11(conn: Connection) -> str:
    return accepts(conn, literal(NEVER, huffman=True, index=USER_AGENT))


@case("generic/5/12", "Sends a literal header field never indexed - new name", "RFC 7541, 6.2.3")
def generic_5_12(conn: Connection) -> str:
    return accepts(conn, literal(NEVER, huffman=False))


@case("generic/5/13", "Sends a literal header field never indexed - new name (huffman encoded)", "RFC 7541, 6.2.3")
def generic_5_13(conn: Connection) -> str:
    return accepts(conn, literal(NEVER, huffman=True))


@case("generic/5/14", "Sends a dynamic table size update", "RFC 7541, 6.3")
def generic_5_14(conn: Connection) -> str:
    # The encoder says so at the beginning of its next block.
    conn.encoder.header_table_size = 128
    conn.request()
    return expect.answer(conn)


@case("generic/5/15", "Sends multiple dynamic table size update", "RFC 7541, 4.2")
def generic_5_15(conn: Connection) -> str:
    to_128_then_4096 = b"\x3f\x61\x3f\xe1\x1f"
    conn.send(wire.headers(1, to_128_then_4096 + conn.block(conn.target.fields())))
    return expect.answer(conn)
