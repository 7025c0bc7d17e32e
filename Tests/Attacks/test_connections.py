"""Attacks by connections: too many, too slow, too short, and descriptors that run out."""

import contextlib
import socket
import time

import pytest

from http2_wire import HEADERS, SETTINGS, frame, request
from siege import WatchedServer
from support import RawWebSocket, connect, event_stream, eventually, exchange, publish_many, query, read_to_end
from tls_wire import client_hello, handshake

HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


def test_connections_that_come_and_go_leave_nothing_behind(server, besiege):
    """Ended in each way there is, at each moment there is."""
    openings = [b"", b"G", HEAD, HEAD + b"\r\n", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n[",
                f"GET /v1/subscribe?{query('attacked.a', after='latest')} HTTP/1.1\r\nHost: a\r\n\r\n".encode()]

    def attack(server, deadline):
        count = 0
        while not deadline.over or count < len(openings) * 2:
            with connect(server.tls_port if count % 5 == 4 else server.port) as raw:
                raw.sendall(openings[count % len(openings)])
                if count % 2:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            count += 1
        return f"{count} connections"

    besiege(server, attack, name="connections that come and go", growth_mib=16)


def test_many_connections_that_say_nothing_cost_little(server, besiege):
    connections = 400

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for number in range(connections):
                stack.enter_context(connect(server.tls_port if number % 4 == 3 else server.port))
            deadline.wait()
        return f"{connections} connections"

    # 10 KB for each, and an OpenSSL session of 40 KB for a quarter of them.
    besiege(server, attack, name="connections that say nothing", growth_mib=24)


def test_a_large_answer_that_is_read_byte_by_byte_keeps_no_more_than_itself(server, besiege, channel):
    """The slow read: one byte at a time out of a receive buffer of 4 KB."""
    publish_many(server, [(channel, "x" * 1000)] * 900)
    clients = 20
    wanted = f"GET /v1/channels/{channel}/history?after=0&limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(connect(server.port, receive_buffer=4096)) for _ in range(clients)]
            for raw in sockets:
                raw.sendall(wanted)
            while not deadline.over:
                for raw in sockets:
                    assert raw.recv(1), "the server closed"
                time.sleep(0.01)
        return f"{clients} answers of 1 MiB"

    besiege(server, attack, name="slow reads", growth_mib=clients * 1.5 + 16)


# Descriptors.

@pytest.fixture
def cramped(tmp_path, certificate, form):
    """A server that may have 72 descriptors."""
    from support import binary
    program = tmp_path / "cramped"
    program.write_text(f"#!/bin/sh\nexec prlimit --nofile=72:72 '{binary()}' \"$@\"\n")
    program.chmod(0o755)
    server = WatchedServer(certificate, form, program=program)
    yield server
    try:
        server.bystanders.take()
    finally:
        assert server.stop() == 0


def exhaust(server, stack):
    """Opens connections until the server takes no more of them, because it has no descriptor left or none to spare, and some more."""
    sockets = []
    for _ in range(100):
        raw = stack.enter_context(connect(server.port))
        # Otherwise they would be closed for want of a head.
        raw.sendall(f"GET /v1/subscribe?{query('attacked.a', after='latest')}&wait=300 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        sockets.append(raw)

    def has_no_more():
        before = server.descriptors()
        time.sleep(0.5)
        return before == server.descriptors() > server.descriptors_at_rest + 5
    eventually(has_no_more, "the server has used up its descriptors")
    assert server.descriptors() < server.descriptors_at_rest + len(sockets), "there were enough descriptors"
    return sockets


def test_a_server_without_descriptors_serves_those_it_has_and_accepts_again(cramped, form, channel):
    server = cramped
    server.bystanders.take()
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            sockets = exhaust(server, stack)
            before, began = server.cpu_seconds(), time.monotonic()
            time.sleep(max(2.0, form.attack_seconds / 2))
            share = (server.cpu_seconds() - before) / (time.monotonic() - began)
            during = server.bystanders.take()
            print(f"without descriptors: {during}; the server uses {share:.0%} of a core")
            assert during.count, "the bystanders were served nothing"
            assert share < 0.5, f"the server spins on connections that it cannot accept: {share:.0%} of a core"
            # One that leaves makes room for one that waits.
            assert server.alive
            sockets[0].close()
            server.bystanders.take()
        eventually(lambda: server.descriptors() == server.descriptors_at_rest, "the descriptors are given back", seconds=15)
        answer, closed = exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        assert answer is not None and answer.status_code == 200 and closed
        with handshake(server.tls_port) as tls:
            tls.sendall(HEAD + b"Connection: close\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 200")
    server.answers()


# Too slow, with deadlines of a second or two.

def is_ended(raw, seconds=10):
    data, closed = read_to_end(raw, seconds)
    assert closed, f"the connection goes on after {data[:100]!r}"
    return data


def test_a_connection_that_says_nothing_is_closed(hasty):
    with connect(hasty.port) as raw:
        is_ended(raw)


def test_a_kept_connection_without_a_request_is_closed(hasty):
    with connect(hasty.port) as raw:
        raw.sendall(HEAD + b"\r\n")
        assert is_ended(raw).count(b"HTTP/1.1 ") == 1


def test_a_tls_handshake_that_is_not_finished_is_closed(hasty):
    hello = client_hello()
    with contextlib.ExitStack() as stack:
        sockets = {}
        for size in (0, 1, 5, len(hello) // 2, len(hello)):
            sockets[size] = stack.enter_context(connect(hasty.tls_port))
            sockets[size].sendall(hello[:size])
        for raw in sockets.values():
            is_ended(raw)


def test_a_tls_handshake_that_comes_byte_by_byte_is_closed(hasty):
    """The deadline is of the whole handshake: a byte now and then does not put it off."""
    hello = client_hello()
    with connect(hasty.tls_port) as raw:
        ended = dribble(raw, [hello[number:number + 1] for number in range(len(hello))], 8)
    assert ended, "the server waits for the rest of the handshake as long as a byte comes now and then"


def dribble(raw, pieces, seconds, every=0.1):
    """Sends piece by piece; whether the server ended it before the pieces or the time were over."""
    end = time.monotonic() + seconds
    for piece in pieces:
        if time.monotonic() > end:
            return False
        raw.settimeout(every)
        try:
            raw.sendall(piece)
            if not raw.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("dribbles", [False, True], ids=["stops", "goes-on-slowly"])
def test_a_head_that_does_not_come_to_its_end_is_answered_with_408_and_closed(hasty, dribbles, tls):
    """Slowloris: a field now and then does not put the deadline off."""
    with handshake(hasty.tls_port) if tls else connect(hasty.port) as raw:
        raw.sendall(HEAD)
        if dribbles:
            data = b""
            end = time.monotonic() + 8
            with contextlib.suppress(OSError):
                while time.monotonic() < end:
                    raw.settimeout(0.2)
                    with contextlib.suppress(TimeoutError):
                        data = raw.recv(65536)
                        break
                    raw.sendall(b"X: y\r\n")
            assert time.monotonic() < end, "the server waits for the rest of the head as long as a line comes now and then"
        else:
            data, closed = read_to_end(raw, 8)
            assert closed
    assert data.startswith(b"HTTP/1.1 408 "), data[:200]
    assert b"connection: close" in data.lower() and b"/problems/request-timeout" in data


@pytest.mark.parametrize("head", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"], ids=["length", "chunked"])
@pytest.mark.parametrize("dribbles", [False, True], ids=["stops", "goes-on-slowly"])
def test_a_body_that_does_not_come_to_its_end_is_answered_with_408_and_closed(hasty, channel, head, dribbles):
    piece = b"1" if b"Length" in head else b"1\r\n1\r\n"
    with connect(hasty.port) as raw:
        raw.sendall(f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\n".encode() + head + piece)
        data = b""
        end = time.monotonic() + 8
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                raw.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    data = raw.recv(65536)
                    break
                if dribbles:
                    raw.sendall(piece)
        assert time.monotonic() < end, "the server waits for the rest of the body"
    assert data.startswith(b"HTTP/1.1 408 "), data[:200]


def test_the_deadline_of_a_head_holds_for_each_request_of_a_connection(hasty):
    with connect(hasty.port) as raw:
        raw.sendall(HEAD + b"\r\n" + HEAD)
        data = is_ended(raw)
    assert data.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in data, data[:300]


def lets_go(server, sockets, what):
    """The server closes connections that do not read: their descriptors are given back while they are still held."""
    eventually(lambda: server.descriptors() <= server.descriptors_at_rest, f"{what} are closed", seconds=15)
    assert sockets


@pytest.mark.parametrize("way", ["answer", "sse", "websocket", "tls-sse"])
def test_a_connection_that_takes_nothing_of_what_waits_for_it_is_closed(hasty, channel, way):
    server = hasty
    publish_many(server, [(channel, "x" * 100_000)] * 80)
    subscribe = f"/v1/subscribe?{query(channel, after='earliest')}"
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(3):
            if way == "answer":
                raw = connect(server.port, receive_buffer=4096)
                # A page has about 1 MiB; several are more than the kernel takes.
                raw.sendall(f"GET /v1/channels/{channel}/history?after=0 HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 10)
            elif way == "sse":
                raw = event_stream(server.port, subscribe, receive_buffer=4096)
            elif way == "websocket":
                raw = RawWebSocket(server.port, subscribe, receive_buffer=4096).raw
            else:
                raw = handshake(server.tls_port)
                raw.sendall(f"GET {subscribe} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
            sockets.append(stack.enter_context(raw))
        lets_go(server, sockets, "connections that take nothing")


def test_slow_connections_of_all_kinds_together_do_not_hold_up_the_others(hasty, besiege, channel):
    """Heads, bodies, handshakes, frames: hundreds that hold on for as long as they may, and are given up."""
    hello = client_hello()
    post = f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\n".encode()

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            sockets = []

            def open_with(data, port):
                raw = stack.enter_context(connect(port))
                raw.sendall(data)
                raw.setblocking(False)
                sockets.append(raw)

            for _ in range(30):
                open_with(b"", server.port)
                open_with(HEAD, server.port)
                open_with(post + b"Content-Length: 1000\r\n\r\n1", server.port)
                open_with(post + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n", server.port)
                open_with(b"", server.tls_port)
                open_with(hello[:100], server.tls_port)
                open_with(b"PRI * HTTP/2.0\r\n\r\n", server.port)
                open_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, request()), server.port)
            while not deadline.over:
                for raw in sockets:
                    with contextlib.suppress(OSError):
                        raw.send(b"1")
                time.sleep(0.2)
        return f"{len(sockets)} slow connections"

    besiege(hasty, attack, name="slow connections", growth_mib=24, seconds_min=1.5)
