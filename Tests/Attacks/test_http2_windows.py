"""Peers of HTTP/2 that ask for much and take little: tiny windows, sockets that are not read, streams that never end."""

import time

from http2_wire import CONTINUATION, DATA, HEADERS, SETTINGS, WINDOW_UPDATE, Peer, frame, headers, request, setting
from siege import Deadline
from support import connect, eventually, publish_many, read_to_end

SSE = ("accept", "text/event-stream")
INITIAL_WINDOW = 4
PAGE = 1000
MESSAGE = "x" * 1000


def fill(server, channel):
    """A history of one page that is about as large as a page may be."""
    publish_many(server, [(channel, f"{number} {MESSAGE}") for number in range(PAGE)])


def history(channel):
    return request("GET", f"/v1/channels/{channel}/history?after=0&limit={PAGE}")


def test_a_window_of_one_byte_that_grows_byte_by_byte_keeps_no_more_than_it_must(server, besiege, channel):
    """Data dribble (CVE-2019-9511): a large answer in frames of one byte."""
    fill(server, channel)

    def attack(server, deadline):
        grown = 0
        while True:
            with Peer(server.port, settings=setting(INITIAL_WINDOW, 1)) as peer:
                streams = [peer.take_stream() for _ in range(8)]
                for stream in streams:
                    peer.send(headers(stream, history(channel)))
                assert peer.read(10, lambda peer: set(streams) <= set(peer.blocks)), "no answer begins"
                dribble = b"".join(frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1") for stream in streams)
                while not deadline.over and peer.send(dribble) and peer.goaway is None:
                    grown += len(streams)
                if deadline.over:
                    return f"{grown} window updates, {peer.kinds[DATA]} frames of data"

    # Eight answers of 1 MiB and a bit, and what it takes to make one of them.
    besiege(server, attack, name="data dribble", growth_mib=48)


def test_answers_that_are_asked_for_and_not_read_are_bounded(server, besiege, channel):
    """Internal data buffering (CVE-2019-9517): the HTTP/2 windows are wide open, and the socket is not read."""
    fill(server, channel)
    connections, streams = 4, 100

    def attack(server, deadline):
        peers = [Peer(server.port, settings=setting(INITIAL_WINDOW, (1 << 31) - 1), is_deaf=True, receive_buffer=4096)
                 for _ in range(connections)]
        try:
            for peer in peers:
                peer.send(frame(WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
                peer.send(b"".join(headers(peer.take_stream(), history(channel)) for _ in range(streams)))
            deadline.wait()
        finally:
            for peer in peers:
                peer.raw.close()
        return f"{connections * streams} answers of 1 MiB asked for"

    # Not connections * streams * 1 MiB: of what cannot be sent, each connection may keep 16 answers.
    besiege(server, attack, name="answers not read", growth_mib=connections * 16 + 16)


def test_128_event_streams_on_a_connection_that_is_not_read_cost_little(server, besiege, channel):
    """Half of them want all that was ever published, half what comes."""
    connections, streams = 4, 128
    publish_many(server, [(channel, "x" * 20_000)] * 100)

    def attack(server, deadline):
        peers = [Peer(server.port, is_deaf=True, receive_buffer=4096, settings=setting(INITIAL_WINDOW, (1 << 31) - 1))
                 for _ in range(connections)]
        try:
            for peer in peers:
                peer.send(frame(WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
                for number in range(streams):
                    path = f"/v1/subscribe?channel={channel}&after={'earliest' if number % 2 else 'latest'}"
                    peer.send(headers(peer.take_stream(), request("GET", path, SSE)))
            publish_many(server, [(channel, "x" * 20_000)] * 10)
            deadline.wait()
        finally:
            for peer in peers:
                peer.raw.close()
        return f"{connections * streams} streams that are not read"

    # Each stream may hold the page that it was reading, of 128 KiB at most.
    besiege(server, attack, name="128 event streams not read", growth_mib=connections * streams / 8 + 16)


def test_event_streams_whose_windows_are_shut_cost_little_and_go_on_when_they_open(server, besiege, channel):
    """The socket is read; the windows of the streams are 0, so all waits in the server's HTTP/2 layer."""
    connections, streams = 2, 128

    def attack(server, deadline):
        peers = [Peer(server.port, settings=setting(INITIAL_WINDOW, 0)) for _ in range(connections)]
        try:
            for peer in peers:
                peer.send(b"".join(headers(peer.take_stream(), request("GET", f"/v1/subscribe?channel={channel}&after=latest", SSE))
                                   for _ in range(streams)))
                assert peer.read(10, lambda peer: len(peer.blocks) == streams)
            for _ in range(5):
                publish_many(server, [(channel, MESSAGE)] * 40)
            deadline.wait()
            assert not any(peer.kinds[DATA] for peer in peers), "data was sent into a window of 0"
            peers[0].send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, 1000)))
            assert peers[0].read(10, lambda peer: peer.kinds[DATA] >= streams), "the streams do not go on"
        finally:
            for peer in peers:
                peer.raw.close()
        return f"{connections * streams} streams without a window"

    besiege(server, attack, name="event streams without a window", growth_mib=connections * streams / 8 + 16)


def test_bodies_that_never_end_are_bounded_together(server, besiege, channel):
    """128 streams of one connection, each with a body up to its window: together they may have no more than one body may."""
    connections, streams = 4, 128

    def attack(server, deadline):
        sent = 0
        peers = []
        try:
            while not deadline.over or not sent:
                for peer in peers:
                    peer.raw.close()
                peers = [Peer(server.port) for _ in range(connections)]
                for peer in peers:
                    numbers = [peer.take_stream() for _ in range(streams)]
                    block = request("POST", f"/v1/channels/{channel}")
                    peer.send(b"".join(headers(stream, block, end=False) for stream in numbers))
                    for _ in range(3):
                        for stream in numbers:
                            sent += peer.send(frame(DATA, 0, stream, b"x" * 16384))
            for peer in peers:
                assert peer.goaway is None, peer.goaway
        finally:
            for peer in peers:
                peer.raw.close()
        return f"{sent * 16384 >> 20} MiB of bodies without end"

    besiege(server, attack, name="bodies without end", growth_mib=connections * 16 + 32)


# With deadlines of a second or two.

def still_open(peers, seconds=10):
    """Reads until the server has ended them all, or the time is over; answers those that go on."""
    deadline = time.monotonic() + seconds
    for peer in peers:
        peer.read(max(0, deadline - time.monotonic()))
    return [peer for peer in peers if not peer.is_closed]


def test_a_connection_that_says_nothing_after_its_preface_is_closed(hasty):
    peers = [Peer(hasty.port) for _ in range(10)]
    try:
        assert not still_open(peers), "the server keeps connections that say nothing"
    finally:
        for peer in peers:
            peer.raw.close()


def test_a_half_sent_preface_is_closed(hasty):
    with connect(hasty.port) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM")
        _, closed = read_to_end(raw, 10)
    assert closed, "the server waits for the rest of the preface for ever"


def test_a_header_block_that_does_not_come_to_its_end_is_given_up(hasty):
    """The slow head of HTTP/2: HEADERS, then a CONTINUATION now and then or never."""
    peers = [Peer(hasty.port) for _ in range(20)]
    try:
        for peer in peers:
            peer.send(frame(HEADERS, 0, peer.take_stream(), request()))
        for _ in range(4):
            for peer in peers[:10]:
                peer.read(0.03)
                peer.send(frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y"))
        going_on = still_open(peers)
        assert not going_on, f"{len(going_on)} of {len(peers)} connections with half a header block go on"
    finally:
        for peer in peers:
            peer.raw.close()


def test_a_body_that_comes_byte_by_byte_is_given_up(hasty, channel):
    peers = [Peer(hasty.port) for _ in range(10)]
    try:
        for peer in peers:
            for _ in range(5):
                peer.send(headers(peer.take_stream(), request("POST", f"/v1/channels/{channel}"), end=False))
        deadline = Deadline(6)
        while going_on := [peer for peer in peers if not peer.is_closed and len(peer.ended) < 5]:
            assert not deadline.over, f"{len(going_on)} of {len(peers)} connections with slow bodies go on"
            for peer in going_on:
                peer.send(b"".join(frame(DATA, 0, stream, b"1") for stream in (1, 3, 5, 7, 9) if stream not in peer.ended))
                peer.read(0.01)
    finally:
        for peer in peers:
            peer.raw.close()


def test_answers_into_a_window_that_never_opens_are_given_up(hasty):
    """The socket is read, the window is not opened: what waits for it makes no progress for as long as the deadline says."""
    peers = [Peer(hasty.port, settings=setting(INITIAL_WINDOW, 0)) for _ in range(5)]
    try:
        for peer in peers:
            for _ in range(5):
                peer.send(headers(peer.take_stream(), request("GET", "/metrics")))
        deadline = Deadline(7)
        for peer in peers:
            peer.read(deadline.left, lambda peer: len(peer.ended) == 5)
        going_on = [peer for peer in peers if not peer.is_closed and len(peer.ended) < 5]
        assert not going_on, f"{len(going_on)} of {len(peers)} connections without a window keep their answers waiting"
    finally:
        for peer in peers:
            peer.raw.close()


def test_a_connection_that_is_not_read_is_closed(hasty, channel):
    """128 event streams that stop reading: the socket takes nothing, and after the deadline the connection is gone."""
    publish_many(hasty, [(channel, "x" * 20_000)] * 100)
    peers = [Peer(hasty.port, is_deaf=True, receive_buffer=4096, settings=setting(INITIAL_WINDOW, (1 << 31) - 1)) for _ in range(2)]
    try:
        for peer in peers:
            peer.send(frame(WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
            peer.send(b"".join(headers(peer.take_stream(), request("GET", f"/v1/subscribe?channel={channel}&after=earliest", SSE))
                               for _ in range(128)))
        eventually(lambda: hasty.descriptors() <= hasty.descriptors_at_rest, "connections that are not read are closed", seconds=15)
    finally:
        for peer in peers:
            peer.raw.close()
