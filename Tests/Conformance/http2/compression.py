"""The `hpack` suite of h2spec: header blocks that cannot be decoded. Each is a connection error (RFC 9113, 4.3)."""

from __future__ import annotations

from hpack.hpack import encode_integer

from . import expect, wire
from .case import case
from .connection import Connection
from .wire import ErrorCode, Setting

# A literal field without indexing whose name is x-test in Huffman coding; its value follows.
X_TEST = b"\x00\x85\xf2\xb2\x4a\x84\xff"


def cannot_be_decoded(conn: Connection, before: bytes = b"", after: bytes = b"") -> str:
    conn.send(wire.headers(1, before + conn.block(conn.target.fields()) + after))
    return expect.connection_error(conn, ErrorCode.COMPRESSION_ERROR)


@case("hpack/2.3.3/1", "Sends a indexed header field representation with invalid index", "RFC 7541, 2.3.3")
def hpack_2_3_3_1(conn: Connection) -> str:
    # Index 70: the static table has 61 entries, and the request has put fewer than 9 into the dynamic one.
    return cannot_be_decoded(conn, after=b"\xc6")


@case("hpack/2.3.3/2", "Sends a literal header field representation with invalid index", "RFC 7541, 2.3.3")
def hpack_2_3_3_2(conn: Connection) -> str:
    # With incremental indexing: name of index 70, empty value.
    return cannot_be_decoded(conn, after=b"\x7f\x07\x00")


@case("hpack/4.2/1", "Sends a dynamic table size update at the end of header block", "RFC 7541, 4.2")
def hpack_4_2_1(conn: Connection) -> str:
    return cannot_be_decoded(conn, after=b"\x21")


@case(
    "hpack/5.2/1",
    "Sends a Huffman-encoded string literal representation with padding longer than 7 bits",
    "RFC 7541, 5.2",
)
def hpack_5_2_1(conn: Connection) -> str:
    return cannot_be_decoded(conn, after=X_TEST + b"\x84\x49\x50\x9f\xff")


@case("hpack/5.2/2", "Sends a Huffman-encoded string literal representation padded by zero", "RFC 7541, 5.2")
def hpack_5_2_2(conn: Connection) -> str:
    return cannot_be_decoded(conn, after=X_TEST + b"\x83\x49\x50\x90")


@case("hpack/5.2/3", "Sends a Huffman-encoded string literal representation containing the EOS symbol", "RFC 7541, 5.2")
def hpack_5_2_3(conn: Connection) -> str:
    # "tes", the 30 bits of EOS, "t", and padding.
    return cannot_be_decoded(conn, after=X_TEST + b"\x87\x49\x51\xff\xff\xff\xfa\x7f")


@case("hpack/6.1/1", "Sends a indexed header field representation with index 0", "RFC 7541, 6.1")
def hpack_6_1_1(conn: Connection) -> str:
    return cannot_be_decoded(conn, after=b"\x80")


@case(
    "hpack/6.3/1",
    "Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE",
    "RFC 7541, 6.3",
)
def hpack_6_3_1(conn: Connection) -> str:
    update = encode_integer(conn.settings.get(Setting.HEADER_TABLE_SIZE, 4096) + 1, 5)
    update[0] |= 0x20
    return cannot_be_decoded(conn, before=bytes(update))
