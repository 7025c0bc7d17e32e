"""WebSocket frames that break RFC 6455: the close code that each has to get, and that the connection ends."""

import contextlib
import json
import struct
import zlib

import pytest

from support import RawWebSocket, http, query
from websocket_wire import (
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, ExtendedWebSocket, bomb, deflated, header, masked, part)

LIMIT = 64 << 10
PROTOCOL_ERROR, UNSUPPORTED, INVALID, TOO_BIG = 1002, 1003, 1007, 1009
COMMAND = json.dumps({"id": 1, "type": "ping"})

MALFORMED = {
    # Masking (section 5.1).
    "text that is not masked": (header(TEXT, 5, masked=False) + b"hello", PROTOCOL_ERROR),
    "a ping that is not masked": (header(PING, 0, masked=False), PROTOCOL_ERROR),
    "a close that is not masked": (header(CLOSE, 2, masked=False) + b"\x03\xe8", PROTOCOL_ERROR),
    # Lengths (section 5.2). The payload of those that are too long never comes: nothing may be allocated or waited for.
    "a length with its highest bit set": (header(TEXT, 1 << 63, form=64), PROTOCOL_ERROR),
    "a length of all ones": (header(TEXT, (1 << 64) - 1, form=64), PROTOCOL_ERROR),
    "5 in 16 bits": (header(TEXT, 5, form=16) + b"hello", PROTOCOL_ERROR),
    "125 in 16 bits": (header(TEXT, 125, form=16) + b"x" * 125, PROTOCOL_ERROR),
    "5 in 64 bits": (header(TEXT, 5, form=64) + b"hello", PROTOCOL_ERROR),
    "65535 in 64 bits": (header(TEXT, 65535, form=64), PROTOCOL_ERROR),
    "2^63 - 1 bytes": (header(TEXT, (1 << 63) - 1, form=64), TOO_BIG),
    "4 GiB": (header(TEXT, 1 << 32, form=64), TOO_BIG),
    "one byte over the limit": (header(TEXT, LIMIT + 1), TOO_BIG),
    "binary of 2^63 - 1 bytes": (header(BINARY, (1 << 63) - 1, form=64), {TOO_BIG, UNSUPPORTED}),
    "fragments over the limit": (part(TEXT, b" " * 60_000) + header(CONTINUATION, 6000), TOO_BIG),
    "a fragment of 2^63 - 1 bytes after another": (part(TEXT, b" ") + header(CONTINUATION, (1 << 63) - 1, form=64), TOO_BIG),
    # Reserved bits and opcodes (section 5.2), seen on the first byte.
    **{f"reserved bit {bit}": (masked(TEXT, COMMAND, first=0x81 | 0x80 >> bit), PROTOCOL_ERROR) for bit in (1, 2, 3)},
    "all reserved bits": (masked(TEXT, COMMAND, first=0xF1), PROTOCOL_ERROR),
    "a reserved bit on a ping": (masked(PING, first=0xC9), PROTOCOL_ERROR),
    "a reserved bit on a continuation": (part(TEXT, b" ") + masked(CONTINUATION, b" ", first=0xC0), PROTOCOL_ERROR),
    **{f"opcode {opcode}": (masked(opcode), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    # Control frames (section 5.5).
    "a ping of 126 bytes": (masked(PING, b"x" * 126), PROTOCOL_ERROR),
    "a ping of 126 bytes that do not come": (header(PING, 126), PROTOCOL_ERROR),
    "a ping of 2^63 - 1 bytes": (header(PING, (1 << 63) - 1, form=64), PROTOCOL_ERROR),
    "a pong of 126 bytes": (masked(PONG, b"x" * 126), PROTOCOL_ERROR),
    "a close of 126 bytes": (masked(CLOSE, b"\x03\xe8" + b"x" * 124), PROTOCOL_ERROR),
    "half a ping": (part(PING, b"x"), PROTOCOL_ERROR),
    "half a pong": (part(PONG), PROTOCOL_ERROR),
    "half a close": (part(CLOSE, b"\x03\xe8"), PROTOCOL_ERROR),
    # Fragmentation (section 5.4).
    "a continuation of nothing": (masked(CONTINUATION, b"x"), PROTOCOL_ERROR),
    "a continuation of nothing that goes on": (part(CONTINUATION, b"x"), PROTOCOL_ERROR),
    "a continuation of a message that is complete": (masked(TEXT, COMMAND) + masked(CONTINUATION, b"x"), PROTOCOL_ERROR),
    "text inside of text": (part(TEXT, b" ") + masked(TEXT, COMMAND), PROTOCOL_ERROR),
    "binary inside of text": (part(TEXT, b" ") + masked(BINARY, b"x"), PROTOCOL_ERROR),
    "more fragments than anybody sends": (part(TEXT, b" ") + part(CONTINUATION, b" ") * 5000, TOO_BIG),
    "more empty fragments than anybody sends": (part(TEXT) + part(CONTINUATION) * 5000, TOO_BIG),
    # Close frames (section 7.4).
    "a close of one byte": (masked(CLOSE, b"\x03"), PROTOCOL_ERROR),
    **{f"close code {code}": (masked(CLOSE, struct.pack("!H", code)), PROTOCOL_ERROR)
       for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
    "a close reason that is not UTF-8": (masked(CLOSE, b"\x03\xe8\xff"), INVALID),
    "a close reason that ends in half a character": (masked(CLOSE, b"\x03\xe8\xe2\x82"), INVALID),
    # What it has to say.
    "binary": (masked(BINARY, b"x"), UNSUPPORTED),
    "text that is not JSON": (masked(TEXT, b"hello"), INVALID),
}
NOT_UTF8 = {
    "a lone byte": b"\xff", "a continuation byte": b"\x80", "half a character": b"\xe2\x82", "overlong slash": b"\xc0\xaf",
    "overlong of three": b"\xe0\x80\xaf", "overlong of four": b"\xf0\x80\x80\xaf", "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf", "above U+10FFFF": b"\xf4\x90\x80\x80", "five bytes": b"\xf8\x88\x80\x80\x80",
    "a broken sequence": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80",
}
for name, data in NOT_UTF8.items():
    MALFORMED[f"text with {name}"] = (masked(TEXT, b'{"id":1,"type":"' + data + b'"}'), INVALID)
# Split over fragments, the first of which is not the last: to be noticed as soon as it can be known (section 8.1).
MALFORMED |= {
    "a fault in the first of two fragments": (part(TEXT, b'{"id":"\xff'), INVALID),
    "an overlong form split over fragments": (part(TEXT, b'"\xc0') + part(CONTINUATION, b"\xaf"), INVALID),
    "a surrogate split over fragments": (part(TEXT, b'"\xed') + part(CONTINUATION, b"\xa0"), INVALID),
    "a character that ends with its message": (part(TEXT, b'"\xe2') + masked(CONTINUATION, b"\x82"), INVALID),
}


def ends_with(raw, codes):
    codes = codes if isinstance(codes, set) else {codes}
    code = raw.close_code()
    assert code in codes, f"closed with {code}, not {codes}"
    raw.raw.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        assert raw.raw.recv(1) == b"", "the server goes on after its close"


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_frame_ends_its_connection_with_the_right_code(server, channel, name):
    data, codes = MALFORMED[name]
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") as raw:
        raw.texts(1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.raw.sendall(data)
        ends_with(raw, codes)


def test_what_follows_a_malformed_frame_is_not_done(server, channel):
    command = json.dumps({"id": 1, "type": "publish", "channel": channel, "data": 1})
    with RawWebSocket(server.port) as raw:
        raw.texts(1)
        raw.raw.sendall(masked(3) + masked(TEXT, command))
        ends_with(raw, PROTOCOL_ERROR)
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404


def test_control_frames_between_fragments_are_answered_and_do_not_count(server):
    with RawWebSocket(server.port) as raw:
        raw.texts(1)
        pieces = [COMMAND[at:at + 3] for at in range(0, len(COMMAND), 3)]
        raw.raw.sendall(part(TEXT, pieces[0]))
        for number, piece in enumerate(pieces[1:], 1):
            raw.raw.sendall(masked(PING, b"%d" % number) + part(CONTINUATION, piece))
            opcode, payload = raw.frame()
            assert (opcode, payload) == (PONG, b"%d" % number)
        raw.raw.sendall(masked(PONG, b"unasked") + masked(CONTINUATION))
        assert raw.texts(1) == [{"type": "reply", "id": 1}]


def test_json_that_is_nested_deep_or_long_is_refused_and_nothing_else(server):
    bombs = [
        "[" * 60_000, '{"a":' * 12_000, '{"id":1,"type":"publish","channel":"attacked.a","data":' + "[" * 60_000 + "]" * 60,
        '{"id":1,"type":"publish","channel":"attacked.a","data":' + "1" * 60_000 + "}",
        '{"id":' + "1" * 60_000 + ',"type":"ping"}', '{"id":1,"type":"subscribe","channels":[' + '"a",' * 12_000 + '"a"]}',
        '{"id":1,"type":"ping","type":"ping"}', '{"id":1e999999,"type":"ping"}', '{"id":"' + "\\u0000" * 9000 + '","type":"ping"}',
    ]
    for text in bombs:
        with RawWebSocket(server.port) as raw:
            raw.texts(1)
            raw.send(TEXT, text)
            opcode, payload = raw.frame()
            assert opcode in (TEXT, CLOSE), opcode
            if opcode == CLOSE:
                assert struct.unpack("!H", payload[:2])[0] in (INVALID, TOO_BIG), text[:60]
            else:
                assert json.loads(payload)["type"] == "reply"
    server.answers()


# permessage-deflate (RFC 7692).

OFFER = "permessage-deflate"


@contextlib.contextmanager
def compressing(server, offer=OFFER):
    with ExtendedWebSocket(server.port, offer) as raw:
        assert raw.extensions.startswith("permessage-deflate"), (
            f"permessage-deflate is not negotiated (the answer says {raw.extensions!r}), so this attack cannot be made")
        opcode, payload = raw.frame()
        assert opcode == TEXT and payload
        yield raw


COMPRESSED = {
    "bytes that are no deflate": (masked(TEXT, b"\xff\xff\xff\xff", first=0xC1), {PROTOCOL_ERROR, INVALID}),
    "a block of a reserved type": (masked(TEXT, b"\x07", first=0xC1), {PROTOCOL_ERROR, INVALID}),
    "a stored block whose lengths differ": (masked(TEXT, b"\x00\x05\x00\x00\x00hello", first=0xC1), {PROTOCOL_ERROR, INVALID}),
    "a distance before the beginning": (masked(TEXT, b"\x4b\x04\x62\x00\x01", first=0xC1), {PROTOCOL_ERROR, INVALID}),
    "the bit on a continuation": (part(TEXT, b"") + masked(CONTINUATION, deflated(b"x"), first=0xC0), {PROTOCOL_ERROR}),
    "the bit on a ping": (masked(PING, b"", first=0xC9), {PROTOCOL_ERROR}),
    "the bit on a close": (masked(CLOSE, b"", first=0xC8), {PROTOCOL_ERROR}),
    "the second reserved bit": (masked(TEXT, deflated(COMMAND.encode()), first=0xE1), {PROTOCOL_ERROR}),
    "text that is not UTF-8": (masked(TEXT, deflated(b'"\xff"'), first=0xC1), {INVALID}),
    "one byte over the limit": (masked(TEXT, deflated(b" " * (LIMIT + 1)), first=0xC1), {TOO_BIG}),
    "a bomb of 60 MiB": (masked(TEXT, bomb(60), first=0xC1), {TOO_BIG}),
    "a bomb in fragments": (masked(TEXT, bomb(20)[:10_000], first=0x41) + masked(CONTINUATION, bomb(20)[10_000:]), {TOO_BIG}),
    "a bomb whose end does not come": (masked(TEXT, bomb(40), first=0x41) + part(CONTINUATION, bomb(40)) * 2, {TOO_BIG}),
    "binary that is a bomb": (masked(BINARY, bomb(20), first=0xC2), {TOO_BIG, UNSUPPORTED}),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_malformed_compressed_message_ends_its_connection_with_the_right_code(server, name):
    data, codes = COMPRESSED[name]
    with compressing(server) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.raw.sendall(data)
        ends_with(raw, codes)


def test_a_compressed_command_is_understood_and_so_is_one_that_is_not_compressed(server):
    with compressing(server) as raw:
        for number in range(3):
            text = json.dumps({"id": number, "type": "ping"}).encode()
            raw.raw.sendall(masked(TEXT, deflated(text), first=0xC1) if number != 1 else masked(TEXT, text))
            first, second = raw._take(2)
            payload = raw._take(second & 0x7F)
            if first & 0x40:
                payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
            assert json.loads(payload) == {"type": "reply", "id": number}
