"""Floods on HTTP/2: those that a token bucket has to end, and those that have to cost nothing."""

import contextlib

import pytest

from http2_wire import (
    ALTSVC, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, PRIORITY, PRIORITY_UPDATE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, Peer, calmed, flood, frame, headers, integer, literal, request, setting, text)
from provoked import TRIGGERS
from siege import Deadline

SSE = ("accept", "text/event-stream")
MANY = 10_000


def many(one, count=50):
    """So many of what `one(peer)` makes in one piece."""
    return lambda peer: b"".join(one(peer) for _ in range(count))


def pieces(frames, count=50):
    """Of a flood with so many to a piece, those that may be needed before it is ended."""
    return frames // count


# Rapid reset (CVE-2023-44487): requests that are taken back at once.

RESET_REQUESTS = {
    "parked polls": lambda: request("GET", "/v1/subscribe?channel=attacked.reset&after=latest"),
    "event streams": lambda: request("GET", "/v1/subscribe?channel=attacked.reset&after=earliest", SSE),
    "requests that are answered": lambda: request("GET", "/healthz"),
}


@pytest.mark.parametrize("name", RESET_REQUESTS)
def test_rapid_reset_is_told_to_calm_down(server, besiege, name):
    block = RESET_REQUESTS[name]()

    def one(peer):
        stream = peer.take_stream()
        return headers(stream, block) + frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))

    besiege(server, lambda server, deadline: calmed(flood(server, deadline, many(one), pieces(MANY))),
            name=f"rapid reset of {name}", growth_mib=16)


def test_a_rapid_reset_of_requests_with_half_a_body_is_told_to_calm_down(server, besiege):
    block = request("POST", "/v1/channels/attacked.reset", ("content-length", "70000"))

    def one(peer):
        stream = peer.take_stream()
        return headers(stream, block, end=False) + frame(DATA, 0, stream, b"x" * 1000) + frame(RST_STREAM, 0, stream, bytes(4))

    besiege(server, lambda server, deadline: calmed(flood(server, deadline, many(one), pieces(MANY))),
            name="rapid reset of half bodies", growth_mib=16)


def test_what_comes_after_the_goaway_is_neither_served_nor_kept_and_the_connection_is_closed(server, besiege):
    block = request("POST", "/v1/channels/attacked.goaway", ("content-length", "1"))

    def one(peer):
        stream = peer.take_stream()
        return headers(stream, block, end=False) + frame(RST_STREAM, 0, stream, bytes(4))

    def served(peer):
        stream = peer.take_stream()
        return headers(stream, block, end=False) + frame(DATA, END_STREAM, stream, b"1")

    def attack(server, deadline):
        closed = 0
        while not (deadline.over and closed):
            with Peer(server.port) as peer:
                while peer.goaway is None:
                    assert peer.send(many(one)(peer)) or peer.goaway is not None
                before = len(peer.blocks)
                for _ in range(MANY):
                    if not peer.send(many(served, 20)(peer)) or peer.is_closed:
                        break
                assert peer.is_closed, "the server goes on taking frames after its GOAWAY"
                assert len(peer.blocks) == before, "a request that came after the GOAWAY was answered"
                closed += 1
        return f"{closed} connections closed"

    besiege(server, attack, name="frames after the GOAWAY", growth_mib=16)


# MadeYouReset (CVE-2025-8671): the server is made to reset. Each trigger for itself is in test_http2_frames.

def test_made_you_reset_by_all_triggers_in_turn_is_told_to_calm_down(server, besiege):
    steady = [trigger.one for trigger in TRIGGERS.values() if trigger.codes == {ENHANCE_YOUR_CALM}]
    assert len(steady) >= 6

    def chunk(peer):
        return b"".join(one(peer) for one in steady)

    besiege(server, lambda server, deadline: calmed(flood(server, deadline, chunk, MANY // len(steady))),
            name="made you reset", growth_mib=16)


# CONTINUATION flood (CVE-2024-27316, CVE-2024-28182).

CONTINUATIONS = {
    "full of fields": literal("x", "y" * 100) * 150,
    "with one field": literal("x", "y"),
    "empty": b"",
}


@pytest.mark.parametrize("name", CONTINUATIONS)
def test_endless_continuations_are_told_to_calm_down(server, besiege, name):
    payload = CONTINUATIONS[name]

    def chunk(peer):
        if peer.next_stream == 1:
            return frame(HEADERS, END_STREAM, peer.take_stream(), request())
        return frame(CONTINUATION, 0, 1, payload)

    besiege(server, lambda server, deadline: calmed(flood(server, deadline, chunk, 100)),
            name=f"continuations {name}", growth_mib=16)


def test_header_blocks_in_many_continuations_each_within_the_limit_are_bounded(server, besiege):
    """Eight continuations for each request, as often as one likes, of more than a header list may hold."""
    parts = [literal("x", "y" * 1000) * 16 for _ in range(8)]

    def chunk(peer):
        stream = peer.take_stream()
        return (frame(HEADERS, END_STREAM, stream, request()) + b"".join(frame(CONTINUATION, 0, stream, part) for part in parts[:-1])
                + frame(CONTINUATION, END_HEADERS, stream, parts[-1]))

    besiege(server, lambda server, deadline: calmed(flood(server, deadline, chunk, 3000)),
            name="header lists far too large", growth_mib=24)


# Frames that ask for answers (CVE-2019-9512, CVE-2019-9515), read and not read.

ASKING = {
    "pings": frame(PING, 0, 0, b"12345678"),
    "settings": frame(SETTINGS, 0, 0),
    "settings that change the table": frame(SETTINGS, 0, 0, setting(1, 0) + setting(1, 4096) + setting(4, 65535)),
}


@pytest.mark.parametrize("name", ASKING)
def test_a_flood_of_frames_that_want_answers_is_told_to_calm_down(server, besiege, name):
    chunk = ASKING[name] * 100
    besiege(server, lambda server, deadline: calmed(flood(server, deadline, lambda peer: chunk, 200)),
            name=f"flood of {name}", growth_mib=16)


@pytest.mark.parametrize("name", ["pings", "settings"])
def test_a_flood_of_frames_whose_answers_are_not_read_is_ended(server, besiege, name):
    chunk = ASKING[name] * 100

    def attack(server, deadline):
        ended, sent = 0, 0
        while not (deadline.over and ended):
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(Peer(server.port, is_deaf=True, receive_buffer=4096)) for _ in range(4)]
                # The server closes, or takes nothing more; either way the answers that wait are bounded.
                patience = Deadline(8)
                while going_on := [peer for peer in peers if not peer.is_closed]:
                    assert not patience.over, "the server goes on taking frames whose answers are not read"
                    sent += 100 * sum(peer.send(chunk, seconds=0.3) for peer in going_on)
                for peer in peers:
                    assert peer.goaway in (None, ENHANCE_YOUR_CALM), peer.goaway
                    ended += 1
        return f"{ended} connections ended, {sent} frames taken"

    besiege(server, attack, name=f"flood of {name}, not read", growth_mib=16)


# Empty frames (CVE-2019-9518), and empty header fields (CVE-2019-9516).

def empty_data(peer):
    if peer.next_stream == 1:
        return headers(peer.take_stream(), request("POST", "/v1/channels/attacked.empty"), end=False)
    return frame(DATA, 0, 1) * 100


def padded_data(peer):
    """Nothing but padding, which counts for the window and says nothing."""
    if peer.next_stream == 1:
        return headers(peer.take_stream(), request("POST", "/v1/channels/attacked.empty"), end=False)
    return frame(DATA, 0x8, 1, b"\x00") * 100


def empty_fields(peer):
    return b"".join(headers(peer.take_stream(), request() + b"\x00\x00\x00" * 20) for _ in range(20))


@pytest.mark.parametrize("chunk", [empty_data, padded_data, empty_fields], ids=lambda chunk: chunk.__name__)
def test_frames_without_anything_in_them_are_told_to_calm_down(server, besiege, chunk):
    besiege(server, lambda server, deadline: calmed(flood(server, deadline, chunk, 300)),
            name=chunk.__name__.replace("_", " "), growth_mib=16)


# Frames that achieve nothing and cost nothing (CVE-2019-9513 among them): let them come, or end the connection.

CHEAP = {
    "priorities": lambda peer: b"".join(
        frame(PRIORITY, 0, stream, (stream - 2).to_bytes(4, "big") + b"\x10") for stream in range(3, 203, 2)),
    "priority updates": lambda peer: frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=0,i") * 100,
    "unknown frames": lambda peer: frame(0xF1, 0xFF, 0, b"x" * 200) * 100,
    "alternative services": lambda peer: frame(ALTSVC, 0, 0, b"\0\1ah2=x") * 100,
    "window updates of one": lambda peer: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100,
    "requests on a stream that is closed": lambda peer: headers(1, request() + literal("x", "y" * 100)) * 100,
    "window updates of closed streams": lambda peer: frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 100,
}


@pytest.mark.parametrize("name", CHEAP)
def test_frames_that_achieve_nothing_cost_nothing(server, besiege, name):
    def attack(server, deadline):
        pieces_sent = 0
        while True:
            with Peer(server.port) as peer:
                peer.send(headers(peer.take_stream(), request()))
                assert peer.read(5, lambda peer: 1 in peer.ended)
                while not deadline.over and peer.send(CHEAP[name](peer)):
                    pieces_sent += 1
                assert peer.goaway in (None, ENHANCE_YOUR_CALM), peer.goaway
                if deadline.over:
                    assert peer.goaway == ENHANCE_YOUR_CALM or peer.is_alive(), "neither ended nor alive"
                    return f"{pieces_sent * 100} frames"

    besiege(server, attack, name=f"flood of {name}", growth_mib=16)


# HPACK.

def bomb(peer):
    """A field of 4000 bytes put into the table once, then referred to 12,000 times in one block: 48 MB of header list."""
    first = b"\x40" + text("x") + text("y" * 4000)
    return b"".join(headers(peer.take_stream(), request() + (first if number == 0 else b"") + b"\xbe" * 12_000) for number in range(2))


def test_an_hpack_bomb_is_refused_by_its_decoded_size(server, besiege):
    def attack(server, deadline):
        codes = flood(server, deadline, bomb, 2000)
        return calmed(codes)

    besiege(server, attack, name="HPACK bomb", growth_mib=16)


def test_one_hpack_bomb_is_refused_and_what_follows_is_served(server):
    with Peer(server.port) as peer:
        peer.send(bomb(peer))
        stream = peer.take_stream()
        peer.send(headers(stream, request()))
        assert peer.read(10, lambda peer: {1, 3, stream} <= peer.ended)
        assert peer.resets[ENHANCE_YOUR_CALM] == 2 or len(peer.blocks) >= 3, dict(peer.resets)
        assert stream in peer.blocks and peer.goaway is None
        assert peer.is_alive()


def test_table_size_changes_without_end_are_bounded(server, besiege):
    """Every block begins with changes of the table's size, which throw the table away and make it anew."""
    changes = (integer(0, 5, 0x20) + integer(4096, 5, 0x20)) * 2
    fill = b"\x40" + text("x") + text("y" * 3000)

    def chunk(peer):
        return b"".join(headers(peer.take_stream(), changes[:4] + request() + fill) for _ in range(3))

    def attack(server, deadline):
        sent = 0
        while not deadline.over:
            with Peer(server.port) as peer:
                while not deadline.over and peer.goaway is None and peer.send(chunk(peer)):
                    sent += 3
                    peer.read(5, lambda peer: peer.next_stream - 2 in peer.ended)
                assert peer.goaway in (None, 9, ENHANCE_YOUR_CALM), peer.goaway
        return f"{sent} requests"

    besiege(server, attack, name="HPACK table changes", growth_mib=16)
