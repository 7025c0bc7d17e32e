"""HTTP/2 frames that break the rules, one at a time: the answer that each has to get."""

import pytest

from http2_wire import (
    ALTSVC, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    GOAWAY, HEADERS, NO_ERROR, PING, PRIORITY, PRIORITY_UPDATE, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS,
    STREAM_CLOSED, WINDOW_UPDATE, Peer, frame, headers, literal, request, setting, status_of, text)
from provoked import PARKED, POSTING, TRIGGERS
from support import http

# What the server may be made to reset before it has enough: its burst, and some that come while it says so.
PROVOKED_MAX = 2500


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_peer_that_makes_the_server_reset_streams_is_told_to_calm_down(server, name):
    trigger = TRIGGERS[name]
    with Peer(server.port) as peer:
        peer.send(trigger.one(peer))
        for sent in range(1, PROVOKED_MAX + 1):
            if not peer.send(trigger.one(peer)) or peer.goaway is not None:
                break
            if sent % 64 == 0:
                peer.read(0.01)
        assert peer.read(5, lambda peer: peer.goaway is not None), f"{sent} streams, and the connection goes on: {dict(peer.resets)}"
        assert peer.goaway in trigger.codes, f"GOAWAY with {peer.goaway} after {sent} streams"
        if peer.goaway == ENHANCE_YOUR_CALM:
            assert sum(peer.resets.values()) <= 1100, dict(peer.resets)
        assert peer.read(8, lambda peer: False), "the connection is not closed"
    server.answers()


def on_stream(kind, flags, payload, block=PARKED, end=True):
    return headers(1, block, end) + frame(kind, flags, 1, payload)


# What ends the connection, and with which code (RFC 9113, section 5.4.1).
FATAL = {
    "data on stream 0": (frame(DATA, 0, 0, b"x"), {PROTOCOL_ERROR}),
    "data on a stream that was never opened": (frame(DATA, 0, 1, b"x"), {PROTOCOL_ERROR, STREAM_CLOSED}),
    "headers on stream 0": (frame(HEADERS, 5, 0, request()), {PROTOCOL_ERROR}),
    "headers on an even stream": (frame(HEADERS, 5, 2, request()), {PROTOCOL_ERROR}),
    "a continuation without headers": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), {PROTOCOL_ERROR}),
    "a ping between headers and their continuation": (frame(HEADERS, 1, 1, b"\x82") + frame(PING, 0, 0, bytes(8)), {PROTOCOL_ERROR}),
    "headers of another stream in between": (frame(HEADERS, 1, 1, b"\x82") + headers(3, request()), {PROTOCOL_ERROR}),
    "a continuation of another stream": (frame(HEADERS, 1, 1, b"\x82") + frame(CONTINUATION, 4, 3, b"\x86"), {PROTOCOL_ERROR}),
    "an unknown frame in between": (frame(HEADERS, 1, 1, b"\x82") + frame(0xF1, 0, 0), {PROTOCOL_ERROR}),
    "a reset on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), {PROTOCOL_ERROR}),
    "a reset of a stream that was never opened": (frame(RST_STREAM, 0, 1, bytes(4)), {PROTOCOL_ERROR}),
    "a reset of five bytes": (on_stream(RST_STREAM, 0, bytes(5)), {FRAME_SIZE_ERROR}),
    "settings on a stream": (frame(SETTINGS, 0, 1), {PROTOCOL_ERROR}),
    "settings of five bytes": (frame(SETTINGS, 0, 0, bytes(5)), {FRAME_SIZE_ERROR}),
    "an acknowledgement of settings with something in it": (frame(SETTINGS, 1, 0, bytes(6)), {FRAME_SIZE_ERROR}),
    "a window setting that overflows": (frame(SETTINGS, 0, 0, setting(4, 1 << 31)), {FLOW_CONTROL_ERROR}),
    "a frame size setting too small": (frame(SETTINGS, 0, 0, setting(5, 16383)), {PROTOCOL_ERROR}),
    "a frame size setting too large": (frame(SETTINGS, 0, 0, setting(5, 1 << 24)), {PROTOCOL_ERROR}),
    "a push setting of two": (frame(SETTINGS, 0, 0, setting(2, 2)), {PROTOCOL_ERROR}),
    "far too many settings": (frame(SETTINGS, 0, 0, setting(0xF1, 0) * 2000), {ENHANCE_YOUR_CALM, PROTOCOL_ERROR}),
    "a push promise": (frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), {PROTOCOL_ERROR}),
    "a ping on a stream": (frame(PING, 0, 1, bytes(8)), {PROTOCOL_ERROR}),
    "a ping of seven bytes": (frame(PING, 0, 0, bytes(7)), {FRAME_SIZE_ERROR}),
    "a goaway on a stream": (frame(GOAWAY, 0, 1, bytes(8)), {PROTOCOL_ERROR}),
    "a goaway of seven bytes": (frame(GOAWAY, 0, 0, bytes(7)), {FRAME_SIZE_ERROR}),
    "a connection window that grows by nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), {PROTOCOL_ERROR}),
    "a connection window that overflows": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), {FLOW_CONTROL_ERROR}),
    "a window update of three bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), {FRAME_SIZE_ERROR}),
    "a window update of a stream that was never opened": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), {PROTOCOL_ERROR}),
    "a frame of 16 MiB": (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", {FRAME_SIZE_ERROR}),
    "a frame one byte too long": (frame(DATA, 0, 1, b"x" * 16385), {FRAME_SIZE_ERROR}),
    "padding longer than the frame": (on_stream(DATA, 0x8, b"\x05abcd", POSTING, end=False), {PROTOCOL_ERROR}),
    "padding longer than the headers": (frame(HEADERS, 0xD, 1, b"\xff" + request()), {PROTOCOL_ERROR}),
    "an index that is in no table": (headers(1, b"\xff\xff\x03"), {COMPRESSION_ERROR}),
    "index 0": (headers(1, b"\x80"), {COMPRESSION_ERROR}),
    "an integer without end": (headers(1, b"\xff" + b"\xff" * 100), {COMPRESSION_ERROR}),
    "a string longer than its block": (headers(1, b"\x82\x86\x00\x7f\xff\xff\xff\x07x"), {COMPRESSION_ERROR}),
    "a Huffman code that ends in nothing": (headers(1, b"\x00\x81\x00\x01x"), {COMPRESSION_ERROR}),
    "Huffman padding of a byte": (headers(1, b"\x00\x82\x1f\xff\x01x"), {COMPRESSION_ERROR}),
    "the end-of-string code": (headers(1, b"\x00\x84\xff\xff\xff\xff\x01x"), {COMPRESSION_ERROR}),
    "a table larger than allowed": (headers(1, b"\x3f\xe1\xff\x03" + request()), {COMPRESSION_ERROR}),
    "a change of the table's size in the middle": (headers(1, request() + b"\x20"), {COMPRESSION_ERROR}),
}


@pytest.mark.parametrize("name", FATAL)
def test_a_connection_error_ends_the_connection_with_its_code(server, name):
    data, codes = FATAL[name]
    with Peer(server.port) as peer:
        peer.send(data)
        assert peer.read(8, lambda peer: peer.goaway is not None), f"no GOAWAY: {dict(peer.kinds)}, resets {dict(peer.resets)}"
        assert peer.goaway in codes, f"GOAWAY with {peer.goaway}"
        assert peer.read(8), "the connection is not closed"
    server.answers()


# After the end of the session nothing is read any more, least of all a frame of a wrong size (CVE-2026-27135: an assertion in nghttp2).
ENDINGS = ["a ping on a stream", "headers on stream 0", "a connection window that grows by nothing", "index 0", "a goaway of seven bytes"]
AFTERWARDS = {
    "a ping of seven bytes": frame(PING, 0, 0, bytes(7)),
    "settings of five bytes": frame(SETTINGS, 0, 0, bytes(5)),
    "a priority update of two bytes": frame(PRIORITY_UPDATE, 0, 0, bytes(2)),
    "an alternative service of one byte": frame(ALTSVC, 0, 0, b"\xff"),
    "a window update of three bytes": frame(WINDOW_UPDATE, 0, 1, bytes(3)),
    "a reset of three bytes": frame(RST_STREAM, 0, 1, bytes(3)),
    "a priority of four bytes": frame(PRIORITY, 0, 1, bytes(4)),
    "a goaway of three bytes": frame(GOAWAY, 0, 0, bytes(3)),
    "a frame of 16 MiB": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 30_000,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_malformed_frames_after_the_end_of_the_session_are_survived(server, ending):
    data, codes = FATAL[ending]
    for name, afterwards in AFTERWARDS.items():
        for together in (True, False):
            with Peer(server.port) as peer:
                if together:
                    peer.send(data + afterwards * 3)
                else:
                    peer.send(data)
                    peer.send(afterwards * 3)
                assert peer.read(8, lambda peer: peer.goaway is not None), name
                assert peer.goaway in codes, f"{name}: {peer.goaway}"
        assert server.alive, f"after {name}:\n{''.join(server.output[-40:])}"
    server.answers()


def test_malformed_frames_behind_a_flood_that_was_told_to_calm_down_are_survived(server):
    """The session is ended from outside of nghttp2, in the middle of what was read."""
    for afterwards in AFTERWARDS.values():
        with Peer(server.port) as peer:
            peer.send(frame(PING, 0, 0, bytes(8)) * 1500 + afterwards * 3)
            assert peer.read(8, lambda peer: peer.goaway is not None)
            assert peer.goaway in (ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR), peer.goaway
        assert server.alive, "".join(server.output[-40:])
    server.answers()


def test_the_limits_that_attacks_run_into_are_announced(server):
    with Peer(server.port) as peer:
        assert peer.read(5, lambda peer: peer.settings)
        assert 100 <= peer.settings[3] <= 128, "SETTINGS_MAX_CONCURRENT_STREAMS"
        assert 0 < peer.settings[6] <= 65536, "SETTINGS_MAX_HEADER_LIST_SIZE"
        assert peer.settings.get(1, 4096) <= 4096, "SETTINGS_HEADER_TABLE_SIZE"
        assert peer.settings.get(5, 16384) <= 1 << 20, "SETTINGS_MAX_FRAME_SIZE"


@pytest.mark.parametrize("is_acknowledged", [False, True], ids=["not-yet-known", "known"])
def test_a_stream_over_the_limit_is_refused(server, is_acknowledged):
    """Section 5.1.2. Of a peer that has acknowledged the limit it may be taken as an error of the connection."""
    with Peer(server.port) as peer:
        assert peer.read(5, lambda peer: peer.settings)
        if is_acknowledged:
            peer.send(frame(SETTINGS, 1, 0))
        peer.send(b"".join(headers(peer.take_stream(), PARKED) for _ in range(peer.settings[3] + 1)))
        assert peer.read(5, lambda peer: peer.resets or peer.goaway is not None), "the stream over the limit is not refused"
        if is_acknowledged and peer.goaway is not None:
            assert peer.goaway in (PROTOCOL_ERROR, ENHANCE_YOUR_CALM)
            return
        assert dict(peer.resets) == {REFUSED_STREAM: 1} and peer.goaway is None
        peer.send(frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")))
        stream = peer.take_stream()
        peer.send(headers(stream, request()))
        assert peer.read(5, lambda peer: stream in peer.ended) and stream in peer.blocks


@pytest.mark.parametrize("count", [6, 500], ids=["a-little", "far"])
def test_a_header_list_over_the_limit_is_answered_with_431_or_reset_by_its_decoded_size(server, count):
    with Peer(server.port) as peer:
        peer.send(headers(1, request() + b"\x40" + text("x") + text("y" * 3000) + b"\xbe" * count))
        assert peer.read(5, lambda peer: 1 in peer.ended)
        if 1 in peer.blocks:
            assert status_of(peer.blocks[1]) == 431
        else:
            assert count == 500 and dict(peer.resets) == {ENHANCE_YOUR_CALM: 1}
        assert peer.is_alive()


@pytest.mark.parametrize("count", [101, 2000], ids=["a-few", "many"])
def test_too_many_fields_are_answered_with_431_or_reset(server, count):
    with Peer(server.port) as peer:
        peer.send(headers(1, request() + literal("a", "b") * count))
        assert peer.read(5, lambda peer: 1 in peer.ended)
        assert status_of(peer.blocks[1]) == 431 if 1 in peer.blocks else set(peer.resets) == {ENHANCE_YOUR_CALM}
        assert peer.is_alive()


@pytest.mark.parametrize("end", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("block", [
    b"\x02\x07CONNECT\x01\x0elocalhost:8080", b"\x02\x07CONNECT\x01\x09localhost",
    b"\x02\x07CONNECT\x86\x04" + text("/v1/subscribe?channel=attacked.a") + b"\x01\x09localhost" + literal(":protocol", "none"),
    b"\x82\x86\x84\x01\x09localhost" + literal(":protocol", "websocket"),
], ids=["tunnel", "tunnel-without-port", "unknown-protocol", "protocol-with-get"])
def test_connect_makes_no_tunnel(server, block, end):
    with Peer(server.port) as peer:
        peer.send(headers(1, block, end) + (b"" if end else frame(DATA, 0, 1, b"GET / HTTP/1.1\r\n\r\n")))
        assert peer.read(5, lambda peer: peer.blocks or peer.resets or peer.goaway is not None), "no answer"
        if peer.blocks:
            assert 400 <= status_of(peer.blocks[1]) < 600
        else:
            assert set(peer.resets) <= {PROTOCOL_ERROR, CANCEL, REFUSED_STREAM, NO_ERROR}, dict(peer.resets)


def test_a_request_with_fields_of_http1_framing_publishes_nothing(server, channel):
    """What a proxy would make another request of, once it is written down as HTTP/1.1."""
    path = f"/v1/channels/{channel}"
    blocks = [
        request("POST", path, ("transfer-encoding", "chunked")),
        request("POST", path, ("content-length", "1"), ("content-length", "2")),
        request("POST", path, ("x", "a\r\ncontent-length: 0")),
        request("POST", path, ("x: y\r\nz", "a")),
        request("POST", path + " HTTP/1.1\r\nx: y"),
        request("POST\r\n", path),
        request("POST", path, ("te", "chunked")),
        request("POST", path, ("upgrade", "h2c")),
        request("POST", path, ("proxy-connection", "close")),
        request("POST", path, ("keep-alive", "1")),
    ]
    with Peer(server.port) as peer:
        for block in blocks:
            stream = peer.take_stream()
            peer.send(headers(stream, block, end=False) + frame(DATA, END_STREAM, stream, b"1"))
            assert peer.read(5, lambda peer: stream in peer.ended), block
            assert stream not in peer.blocks or 400 <= status_of(peer.blocks[stream]) < 500, block
        assert peer.is_alive()
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404
