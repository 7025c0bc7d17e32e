"""Floods on HTTP/2: those that a token bucket has to end, and those that have to cost nothing."""

import pytest

from http2_wire import (
    ALTSVC, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PADDED, PING, PRIORITY, PRIORITY_UPDATE,
    RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, Peer, flood, frame, headers, integer, literal, request, setting, text)
from provoked import TRIGGERS
from siege import Deadline
from support import publish_many

SSE = ("accept", "text/event-stream")
MANY = 10_000
# As many requests as a server may find in what it reads at once.
PIECE = 400


def many(one, count=50):
    """So many of what `one(peer)` makes in one piece."""
    return lambda peer: b"".join(one(peer) for _ in range(count))


def taken_back(block, *rest, end=True):
    """A request, frames on its stream, and its reset."""
    def one(peer):
        stream = peer.take_stream()
        frames = b"".join(frame(kind, flags, stream, payload) for kind, flags, payload in rest)
        return headers(stream, block, end) + frames + frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))
    return many(one, PIECE)


# Rapid reset (CVE-2023-44487): requests that are taken back at once.

RAPID_RESETS = {
    "parked polls": taken_back(request("GET", "/v1/subscribe?channel=attacked.reset&after=latest")),
    "event streams": taken_back(request("GET", "/v1/subscribe?channel=attacked.reset&after=earliest", SSE)),
    "requests that are answered at once": taken_back(request("GET", "/healthz")),
    "publications": taken_back(request("POST", "/v1/channels/attacked.reset"), (DATA, END_STREAM, b"1"), end=False),
    "half bodies": taken_back(
        request("POST", "/v1/channels/attacked.reset", ("content-length", "70000")), (DATA, 0, b"x" * 1000), end=False),
    "half heads": many(lambda peer: frame(HEADERS, END_HEADERS, peer.take_stream(), request("POST"))
                       + frame(RST_STREAM, 0, peer.next_stream - 2, bytes(4)), PIECE),
}


@pytest.mark.parametrize("name", RAPID_RESETS)
def test_a_rapid_reset_is_told_to_calm_down(server, name):
    publish_many(server, [("attacked.reset", 1)] * 100)
    flood(server, Deadline(0), {name: RAPID_RESETS[name]}, MANY // PIECE)
    server.answers()


def test_rapid_resets_do_not_hold_up_the_others(server, besiege):
    besiege(server, lambda server, deadline: flood(server, deadline, RAPID_RESETS, MANY // PIECE), name="rapid reset",
            growth_mib=16)


def test_what_comes_after_the_goaway_is_neither_served_nor_kept_and_the_connection_is_closed(server, besiege):
    """A peer that has been told to go goes on: nothing of it is work for the server, also if it costs no token any more."""
    block = request("POST", "/v1/channels/attacked.goaway", ("content-length", "1"))

    def served(peer):
        stream = peer.take_stream()
        return headers(stream, block, end=False) + frame(DATA, END_STREAM, stream, b"1")

    def attack(server, deadline):
        closed = 0
        while not (deadline.over and closed):
            with Peer(server.port) as peer:
                while peer.goaway is None:
                    assert peer.send(RAPID_RESETS["half bodies"](peer)) or peer.goaway is not None
                before = len(peer.blocks)
                patience = Deadline(8)
                while peer.send(many(served)(peer)) and not peer.is_closed:
                    assert not patience.over, "the server goes on taking frames after its GOAWAY"
                assert len(peer.blocks) == before, "a request that came after the GOAWAY was answered"
                closed += 1
        return f"{closed} connections closed"

    besiege(server, attack, name="frames after the GOAWAY", growth_mib=16)


# MadeYouReset (CVE-2025-8671): the server is made to reset. Each trigger for itself is in test_http2_frames.

def test_made_you_reset_by_each_trigger_does_not_hold_up_the_others(server, besiege):
    kinds = {name: many(trigger.one, 20) for name, trigger in TRIGGERS.items() if trigger.codes == {ENHANCE_YOUR_CALM}}
    assert len(kinds) >= 12
    besiege(server, lambda server, deadline: flood(server, deadline, kinds, MANY // 20), name="made you reset", growth_mib=16)


# CONTINUATION flood (CVE-2024-27316, CVE-2024-28182).

def continuing(payload):
    def chunk(peer):
        if peer.next_stream == 1:
            return frame(HEADERS, END_STREAM, peer.take_stream(), request())
        return frame(CONTINUATION, 0, 1, payload)
    return chunk


def far_too_large(peer):
    """Eight continuations for each request, as often as one likes, of more than a header list may hold."""
    stream = peer.take_stream()
    parts = [literal("x", "y" * 1000) * 16] * 7
    return (frame(HEADERS, END_STREAM, stream, request()) + b"".join(frame(CONTINUATION, 0, stream, part) for part in parts)
            + frame(CONTINUATION, END_HEADERS, stream, b"\x00\x01x\x01y"))


CONTINUATIONS = {"full of fields": continuing(literal("x", "y" * 100) * 150), "of one field": continuing(literal("x", "y")),
                 "empty": continuing(b"")}


@pytest.mark.parametrize("name", CONTINUATIONS)
def test_endless_continuations_are_told_to_calm_down(server, name):
    """After eight, or a multiple of that where the block is already lost; what is here is the number of frames."""
    flood(server, Deadline(0), {name: CONTINUATIONS[name]}, 100)


def test_endless_continuations_do_not_hold_up_the_others(server, besiege):
    besiege(server, lambda server, deadline: flood(server, deadline, CONTINUATIONS, 100), name="continuations", growth_mib=16)


def test_header_lists_far_too_large_in_continuations_are_told_to_calm_down(server, besiege):
    besiege(server, lambda server, deadline: flood(server, deadline, {"header lists": far_too_large}, 3000),
            name="header lists far too large", growth_mib=24)


# Frames that ask for answers (CVE-2019-9512, CVE-2019-9515), and those with nothing in them (CVE-2019-9516, CVE-2019-9518).

def posting(rest):
    """Begins a body, then sends such frames of it."""
    def chunk(peer):
        if peer.next_stream == 1:
            return headers(peer.take_stream(), request("POST", "/v1/channels/attacked.empty"), end=False)
        return rest * 100
    return chunk


IDLE = {
    "pings": lambda peer: frame(PING, 0, 0, b"12345678") * 100,
    "settings": lambda peer: frame(SETTINGS, 0, 0) * 100,
    "settings that change the table": lambda peer: frame(SETTINGS, 0, 0, setting(1, 0) + setting(1, 4096) + setting(4, 65535)) * 100,
    "empty data": posting(frame(DATA, 0, 1)),
    "data that is padding alone": posting(frame(DATA, PADDED, 1, b"\x00")),
    "fields without name and value": many(lambda peer: headers(peer.take_stream(), request() + b"\x00\x00\x00" * 20), 20),
}


@pytest.mark.parametrize("name", IDLE)
def test_frames_that_only_want_an_answer_or_say_nothing_are_told_to_calm_down(server, name):
    flood(server, Deadline(0), {name: IDLE[name]}, 300)


def test_frames_that_only_want_an_answer_or_say_nothing_do_not_hold_up_the_others(server, besiege):
    besiege(server, lambda server, deadline: flood(server, deadline, IDLE, 300), name="pings, settings, empty frames", growth_mib=16)


def test_a_flood_of_frames_whose_answers_are_not_read_is_ended(server, besiege):
    kinds = ["pings", "settings"]

    def attack(server, deadline):
        ended, sent = 0, 0
        while not (deadline.over and ended):
            peers = [Peer(server.port, is_deaf=True, receive_buffer=4096) for _ in range(4)]
            try:
                # The server closes, or takes nothing more; either way the answers that wait are bounded.
                patience = Deadline(8)
                while going_on := [peer for peer in peers if not peer.is_closed]:
                    assert not patience.over, "the server goes on taking frames whose answers are not read"
                    for peer in going_on:
                        sent += 100 * peer.send(IDLE[kinds[peers.index(peer) % 2]](peer), seconds=0.3)
                for peer in peers:
                    assert peer.goaway in (None, ENHANCE_YOUR_CALM), peer.goaway
                    ended += 1
            finally:
                for peer in peers:
                    peer.raw.close()
        return f"{ended} connections ended, {sent} frames taken"

    besiege(server, attack, name="pings and settings, not read", growth_mib=16)


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


def send_cheap(server, name, pieces, deadline):
    """Sends so many pieces, or until the deadline; the connection is still alive then, or has been told to calm down."""
    sent = 0
    with Peer(server.port) as peer:
        peer.send(headers(peer.take_stream(), request()))
        assert peer.read(5, lambda peer: 1 in peer.ended)
        while sent < pieces and not deadline.over and peer.send(CHEAP[name](peer)):
            sent += 1
        if not peer.is_alive():
            assert peer.goaway in (ENHANCE_YOUR_CALM, STREAM_CLOSED), f"{name}: ended by {peer.goaway} after {sent} pieces"
    return sent


@pytest.mark.parametrize("name", CHEAP)
def test_frames_that_achieve_nothing_are_passed_over_or_told_to_calm_down(server, name):
    send_cheap(server, name, 500, Deadline(30))


def test_frames_that_achieve_nothing_do_not_hold_up_the_others(server, besiege):
    def attack(server, deadline):
        sent, number = 0, 0
        while not deadline.over or not sent:
            sent += send_cheap(server, list(CHEAP)[number % len(CHEAP)], 500, deadline)
            number += 1
        return f"{sent * 100} frames"

    besiege(server, attack, name="frames that achieve nothing", growth_mib=16)


# HPACK.

def bomb(peer):
    """A field of 4000 bytes put into the table once, then referred to 12,000 times in one block: 48 MB of header list."""
    first = b"\x40" + text("x") + text("y" * 4000)
    return b"".join(headers(peer.take_stream(), request() + (first if number == 0 else b"") + b"\xbe" * 12_000) for number in range(2))


def test_hpack_bombs_are_told_to_calm_down(server, besiege):
    besiege(server, lambda server, deadline: flood(server, deadline, {"bombs": bomb}, 2000), name="HPACK bombs", growth_mib=16)


def test_an_hpack_bomb_is_refused_by_its_decoded_size_and_what_follows_is_served(server):
    with Peer(server.port) as peer:
        peer.send(bomb(peer))
        stream = peer.take_stream()
        peer.send(headers(stream, request()))
        assert peer.read(10, lambda peer: {1, 3, stream} <= peer.ended)
        assert peer.resets[ENHANCE_YOUR_CALM] == 2 or len(peer.blocks) >= 3, dict(peer.resets)
        assert stream in peer.blocks and peer.goaway is None
        assert peer.is_alive()


def test_table_size_changes_without_end_do_not_hold_up_the_others(server, besiege):
    """Every block begins with changes of the table's size, which throw the table away and make it anew."""
    changes = integer(0, 5, 0x20) + integer(4096, 5, 0x20)
    fill = b"\x40" + text("x") + text("y" * 3000)

    def attack(server, deadline):
        sent = 0
        while not deadline.over or not sent:
            with Peer(server.port) as peer:
                while (not deadline.over or not sent) and peer.goaway is None:
                    if not peer.send(b"".join(headers(peer.take_stream(), changes + request() + fill) for _ in range(3))):
                        break
                    sent += 3
                    peer.read(5, lambda peer: peer.next_stream - 2 in peer.ended)
                assert peer.goaway in (None, ENHANCE_YOUR_CALM), peer.goaway
        return f"{sent} requests"

    besiege(server, attack, name="HPACK table changes", growth_mib=16)
