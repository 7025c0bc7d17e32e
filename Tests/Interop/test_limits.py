"""Limits: who is over one is told so and when to come back, and nobody else notices. Slots for clients that have to go."""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import struct
import time

import pytest
import websockets.exceptions

from support import (
    RawAnswer, RawWebSocket, assert_problem, connect, event_stream, eventually, exchange, http, query, read_to_end, trusting_context)
from test_api_keys import keys, with_key  # noqa: F401
from test_processes import figures, workers
from test_tokens import bearer, key  # noqa: F401

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect_from(address, port):
    """A connection from one of this host's addresses."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def head_and_body(raw):
    """One answer with a length, or None if the connection has ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            piece = raw.recv(65536)
        except ConnectionResetError:
            return None
        if not piece:
            return RawAnswer(data) if data else None
        data += piece
    answer = RawAnswer(data)
    while len(answer.content) < int(answer.headers.get("content-length", 0)):
        data += raw.recv(65536)
        answer = RawAnswer(data)
    return answer


def attempt(address, port, request=REQUEST):
    """What a connection that may be refused is answered; None if it is only ended."""
    try:
        with connect_from(address, port) as raw:
            with contextlib.suppress(OSError):
                raw.sendall(request)
            return head_and_body(raw)
    except ConnectionResetError:
        return None


def refusals(server, limit):
    return figures(server)[f'tocsin_limit_refusals_total{{limit="{limit}"}}']


def notes(server, limit):
    """What the log says of a limit."""
    return [entry for entry in list(server.log) if entry.get("message") == "a limit was reached" and entry.get("limit") == limit]


# Connections.

def test_connections_of_one_address_over_its_limit_are_refused_and_others_are_not(start_server):
    server = start_server(arguments=["--connections-per-address", "10"])
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect_from("127.0.0.2", server.port)) for _ in range(10)]
        for raw in held:
            raw.sendall(REQUEST)
            assert head_and_body(raw).status_code == 200
        with connect_from("127.0.0.2", server.port) as raw:
            # Unasked, and closed.
            answer = head_and_body(raw)
            body = assert_problem(answer, 429, "too-many-connections")
            assert body["rule"] == "connections_per_address" and "--connections-per-address" in body["configuration_key"]
            assert answer.headers["retry-after"] == "5"
            assert read_to_end(raw) == (b"", True)
        # A handshake is too dear.
        assert attempt("127.0.0.2", server.tls_port, b"") is None
        server.answers()
        held[0].close()
        eventually(lambda: figures(server)["tocsin_connections"] <= 10, "the server has seen that one is gone")
        with connect_from("127.0.0.2", server.port) as raw:
            raw.sendall(REQUEST)
            assert head_and_body(raw).status_code == 200
    assert refusals(server, "connections_per_address") == 2


def test_a_flood_of_refusals_is_in_the_log_once_and_in_the_metrics_as_often_as_it_was(start_server):
    server = start_server(arguments=["--connections-per-address", "1"])
    with connect_from("127.0.0.2", server.port) as raw:
        raw.sendall(REQUEST)
        assert head_and_body(raw).status_code == 200
        ends = {"told": 0, "reset": 0}
        for _ in range(300):
            answer = attempt("127.0.0.2", server.port, b"")
            assert answer is None or answer.status_code == 429
            ends["told" if answer else "reset"] += 1
    # The first of a flood are told, the rest is ended.
    assert ends["told"] >= 50 and ends["reset"] >= 50, ends
    assert refusals(server, "connections_per_address") == 300
    assert 1 <= len(notes(server, "connections_per_address")) <= 3, notes(server, "connections_per_address")
    assert notes(server, "connections_per_address")[0]["address"] == "127.0.0.2"


def test_attempts_of_one_address_over_its_rate_are_refused_and_others_are_not(start_server):
    server = start_server(arguments=["--connection-rate-per-address", "1:20"])
    ends = []
    for _ in range(60):
        answer = attempt("127.0.0.3", server.port)
        ends.append(answer.status_code if answer else None)
    assert ends.count(200) >= 20 and len(ends) - ends.count(200) >= 20, ends
    with connect_from("127.0.0.4", server.port) as raw:
        raw.sendall(REQUEST)
        assert head_and_body(raw).status_code == 200
    assert refusals(server, "connection_rate_per_address") >= 20


def test_connections_in_all(start_server):
    server = start_server(arguments=["--connections", "5"])
    with contextlib.ExitStack() as stack:
        for number in range(5):
            raw = stack.enter_context(connect_from(f"127.0.0.{10 + number}", server.port))
            raw.sendall(REQUEST)
            assert head_and_body(raw).status_code == 200
        with connect_from("127.0.0.20", server.port) as raw:
            answer = head_and_body(raw)
            assert_problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        # Over TLS it is said to the request.
        with trusting_context().wrap_socket(connect_from("127.0.0.20", server.tls_port)) as tls:
            tls.sendall(REQUEST)
            assert_problem(head_and_body(tls), 503, "overloaded")
            assert read_to_end(tls)[1]
    eventually(lambda: (figures_or_none(server) or {}).get("tocsin_connections") == 1, "they are gone")
    server.answers()


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_over_tls_a_full_server_says_so_to_the_request(start_server, version):
    server = start_server(arguments=["--memory-mark", "1"])
    eventually(lambda: overloaded(server), "the server is above its mark")
    with http(version) as client:
        answer = client.get(f"{server.tls_url}/healthz")
    assert answer.http_version == ("HTTP/2" if version == "2" else "HTTP/1.1")
    assert_problem(answer, 503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1


def status_of(server):
    """What a new connection is answered; None if it is only ended."""
    answer = attempt("127.0.0.1", server.port)
    return answer.status_code if answer else None


def overloaded(server):
    return status_of(server) == 503


# Users.

def test_subscriptions_of_one_user_over_the_limit_are_refused_on_every_transport(start_server, key):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--connections-per-user", "2"])
    path = f"/v1/subscribe?{query('scores.a')}"
    with http() as client, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(client.stream("GET", server.url + path, headers={"Accept": "text/event-stream", **bearer("anna")}))
                   for _ in range(2)]
        assert all(stream.status_code == 200 for stream in streams)
        for fields in ({"Accept": "text/event-stream"}, {}, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                                                            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}):
            answer = client.get(server.url + path, headers={**fields, **bearer("anna")})
            assert_problem(answer, 429, "too-many-connections")
            assert answer.headers["retry-after"] == "5"
        assert client.get(server.url + path, headers=bearer("bert")).status_code == 200
        # What is no subscription does not count.
        assert client.post(f"{server.url}/v1/channels/scores.a", content="1", headers=bearer("anna")).status_code == 201
        streams[0].close()
        eventually(lambda: client.get(server.url + path, headers=bearer("anna")).status_code == 200, "there is a place again")


def test_publications_of_one_user_count_on_all_connections(start_server, key):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--publish-rate-per-user", "1:5"])
    answers = []
    for _ in range(12):
        with http() as client:
            answers.append(client.post(f"{server.url}/v1/channels/scores.a", content="1", headers=bearer("anna")))
    statuses = [answer.status_code for answer in answers]
    assert statuses[:5] == [201] * 5 and statuses.count(429) >= 4, statuses
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert assert_problem(refused, 429, "too-many-publishes")["rule"] == "publish_rate_per_user"
    assert refused.headers["retry-after"] == "1"
    with http() as client:
        assert client.post(f"{server.url}/v1/channels/scores.a", content="1", headers=bearer("bert")).status_code == 201


# Rates of a connection.

def test_a_websocket_over_its_rate_is_told_when_to_come_back_and_closed(start_server):
    server = start_server(arguments=["--command-rate", "1:10"])
    with RawWebSocket(server.port, f"/v1/subscribe?{query('scores.a')}") as client:
        for number in range(40):
            client.send(1, json.dumps({"id": number, "type": "ping"}))
        objects = []
        while True:
            opcode, payload = client.frame()
            if opcode == 8:
                assert struct.unpack("!H", payload[:2])[0] == 1008
                break
            objects.append(json.loads(payload))
    assert objects[-1]["type"] == "going-away" and objects[-1]["retry_after_ms"] >= 1000, objects[-1]
    server.answers()


def test_commands_by_post_count(start_server, channel):
    server = start_server(arguments=["--command-rate", "1:10"])
    with http() as client:
        session = client.get(f"{server.url}/v1/subscribe?{query(channel, session='new')}").json()["session"]
        commands = [{"id": number, "type": "ping"} for number in range(8)]
        assert client.post(f"{server.url}/v1/sessions/{session}", json=commands).status_code == 200
        answer = client.post(f"{server.url}/v1/sessions/{session}", json=commands)
        assert_problem(answer, 429, "too-many-commands-a-second")
        assert int(answer.headers["retry-after"]) >= 5


def test_bytes_of_a_connection(start_server):
    server = start_server(arguments=["--byte-rate", "1000:100000"])
    with http() as client:
        assert client.post(f"{server.url}/v1/channels/scores.a", json="x" * 50_000).status_code == 201
        answer = client.post(f"{server.url}/v1/channels/scores.a", json="x" * 90_000)
        assert_problem(answer, 429, "too-many-bytes")
        assert int(answer.headers["retry-after"]) >= 30
    server.answers()


def test_channels_of_a_subscriber_and_streams_of_a_connection(start_server):
    server = start_server(arguments=["--channels-per-subscriber", "3", "--streams-per-connection", "2"])
    with http() as client:
        assert client.get(f"{server.url}/v1/subscribe?{query(['a', 'b', 'c'])}").status_code == 200
        assert_problem(client.get(f"{server.url}/v1/subscribe?{query(['a', 'b', 'c', 'd'])}"), 400, "too-many-channels")
    with connect(server.port) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        data = b""
        while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3], "big"):
            data += raw.recv(4096)
        settings = data[9:9 + int.from_bytes(data[:3], "big")]
    assert data[3] == 4 and struct.pack("!HI", 3, 2) in [settings[at:at + 6] for at in range(0, len(settings), 6)]


@pytest.mark.parametrize("flags", [
    ["--connections", "0"], ["--publish-rate", "0"], ["--publish-rate", "5:0"], ["--trusted-proxy", "10.0.0.1/8"],
    ["--trusted-proxy", "proxy"],
    ["--proxy-protocol-from", "10.0.0.0/33"], ["--forwarded-field", "via"], ["--descriptor-mark", "100"], ["--ramp", "-1"]])
def test_what_is_no_limit_is_refused_at_the_start(start_server, flags):
    with pytest.raises(AssertionError, match="the server did not start"):
        start_server(arguments=flags)


# Proxies.

VERSION_2 = bytes.fromhex("0d0a0d0a000d0a515549540a")


def version_2(source, command=0x21):
    addresses = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 80)
    return VERSION_2 + bytes([command, 0x11]) + struct.pack("!H", len(addresses)) + addresses


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n", version_2("192.0.2.7")], ids=["version 1", "version 2"])
def test_the_proxy_protocol_is_believed_from_its_sources_on_both_ports(start_server, secure, header):
    server = start_server(arguments=["--proxy-protocol-from", "127.0.0.8/29", "--connections-per-address", "1"])
    port = server.tls_port if secure else server.port

    def speak(header, address="127.0.0.9"):
        raw = connect_from(address, port)
        raw.sendall(header)
        return trusting_context().wrap_socket(raw) if secure else raw

    with speak(header) as first:
        first.sendall(REQUEST)
        assert head_and_body(first).status_code == 200
        # The same client once more; over TLS there is no handshake for it.
        with pytest.raises((AssertionError, OSError)) if secure else contextlib.nullcontext():
            with speak(header) as second:
                answer = head_and_body(second)
                assert answer.status_code == 429
        # Another client of the same proxy.
        another = header.replace(b"192.0.2.7", b"192.0.2.8").replace(socket.inet_aton("192.0.2.7"), socket.inet_aton("192.0.2.8"))
        with speak(another) as other:
            other.sendall(REQUEST)
            assert head_and_body(other).status_code == 200
    # The proxy itself, and nothing said of anybody.
    with speak(b"PROXY UNKNOWN\r\n") as unknown, speak(version_2("192.0.2.9", command=0x20)) as health:
        for raw in (unknown, health):
            raw.sendall(REQUEST)
            assert head_and_body(raw).status_code == 200
    for wrong in (REQUEST, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n", VERSION_2 + b"\x21\x12\0\0", b"\x16\x03\x01"):
        with connect_from("127.0.0.9", port) as raw:
            raw.sendall(wrong + REQUEST)
            assert read_to_end(raw) == (b"", True)


def test_the_proxy_protocol_is_not_believed_from_others(start_server):
    server = start_server(arguments=["--proxy-protocol-from", "127.0.0.8/29"])
    answer, closed = exchange(server.port, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + REQUEST)
    assert answer.status_code == 400 and closed
    server.answers()


@pytest.mark.parametrize("field,form", [("x-forwarded-for", "X-Forwarded-For: {}"), ("forwarded", "Forwarded: for={}")])
def test_a_trusted_proxy_speaks_for_its_clients(start_server, field, form):
    server = start_server(
        arguments=["--trusted-proxy", "127.0.0.9", "--forwarded-field", field, "--connections-per-address", "2"])

    def subscribe(client, stack, address="127.0.0.9"):
        raw = stack.enter_context(connect_from(address, server.port))
        fields = f"Accept: text/event-stream\r\n{form.format(client)}\r\n"
        raw.sendall(f"GET /v1/subscribe?{query('scores.a')} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        return int(raw.recv(12)[-3:])

    with contextlib.ExitStack() as stack:
        assert [subscribe("192.0.2.7", stack) for _ in range(4)] == [200, 200, 429, 429]
        assert [subscribe(f"192.0.2.{number}", stack) for number in range(20, 30)] == [200] * 10
        # Nobody else may speak for them: these two are 127.0.0.2's own.
        assert [subscribe(f"192.0.2.{number}", stack, "127.0.0.2") for number in (40, 40)] == [200, 200]
        assert subscribe("192.0.2.40", stack) == 200


# Leaving.

def parked_poll(server, position):
    raw = connect(server.port)
    fields = "Prefer: wait=60\r\n"
    raw.sendall(f"GET /v1/subscribe?{query('scores.a', after=position)} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    return raw


def slots_of(server, count, leave):
    """Subscribers on each transport, and how long each is told to stay away, in seconds from when they are told to leave."""
    with http() as client, contextlib.ExitStack() as stack:
        position = client.get(f"{server.url}/v1/subscribe?{query('scores.a')}").json()["position"]
        sockets = [stack.enter_context(RawWebSocket(server.port, f"/v1/subscribe?{query('scores.a')}")) for _ in range(count)]
        streams = [stack.enter_context(event_stream(server.port, f"/v1/subscribe?{query('scores.a')}")) for _ in range(count)]
        polls = [stack.enter_context(parked_poll(server, position)) for _ in range(count)]

        def all_there():
            seen = figures(server)
            return all(seen[f'tocsin_subscribers{{transport="{name}"}}'] == count for name in ("websocket", "sse", "long_poll"))
        eventually(all_there, "all have subscribed")
        began = time.monotonic()
        leave()
        slots = {"websocket": [], "sse": [], "long-poll": []}
        for one in sockets:
            last = one.texts(1)[0]
            while last["type"] != "going-away":
                last = one.texts(1)[0]
            slots["websocket"].append(last["retry_after_ms"] / 1000)
            assert one.close_code() == 1012
        for one in streams:
            data, closed = read_to_end(one)
            assert closed
            slots["sse"].append(int(re.search(rb'"retry_after_ms":(\d+)', data)[1]) / 1000)
            assert f"retry: {slots['sse'][-1] * 1000:.0f}\n".encode() in data
        with selectors.DefaultSelector() as selector:
            for one in polls:
                selector.register(one, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(10)
                assert ready, "a poll was not answered"
                arrived = time.monotonic() - began
                for entry, _ in ready:
                    selector.unregister(entry.fileobj)
                    answer = head_and_body(entry.fileobj)
                    assert_problem(answer, 503, "going-away")
                    slots["long-poll"].append(arrived + int(answer.headers["retry-after"]))
        return slots


def assert_even(slots, over):
    """Each transport by itself, in five parts of the time."""
    for name, found in slots.items():
        assert all(0 < slot <= over + 1.5 for slot in found), (name, sorted(found))
        parts = [0] * 5
        for slot in found:
            parts[min(4, int(slot * 5 / over))] += 1
        assert all(len(found) / 5 / 3 <= count <= len(found) / 5 * 2 for count in parts), (name, parts)


def test_a_drain_by_hand_hands_out_slots_evenly_and_can_be_taken_back(start_server):
    server = start_server()
    with http() as client:
        def leave():
            answer = client.post(f"{server.url}/v1/admin/drain?over=40s")
            assert answer.status_code == 202 and answer.json() == {"draining": True, "over_ms": 40_000}
        assert_even(slots_of(server, 30, leave), 40)
        answer = client.get(f"{server.url}/v1/subscribe?{query('scores.a')}")
        assert_problem(answer, 503, "going-away")
        assert 1 <= int(answer.headers["retry-after"]) <= 40
        assert client.get(f"{server.url}/readyz").status_code == 503
        assert client.delete(f"{server.url}/v1/admin/drain").json() == {"draining": False}
        assert client.get(f"{server.url}/v1/subscribe?{query('scores.a')}").status_code == 200
        assert client.get(f"{server.url}/readyz").status_code == 200
        assert client.get(f"{server.url}/v1/admin/drain").status_code == 405
        forwarded = client.post(f"{server.url}/v1/admin/drain", headers={"X-Forwarded-For": "127.0.0.1"})
        assert_problem(forwarded, 403, "not-an-administrator")


def test_a_drain_is_for_an_administrator_or_for_this_host(start_server, key, keys):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(keys[0])])
    far = {"X-Forwarded-For": "192.0.2.7"}
    with http() as client:
        def ask(fields):
            return client.post(f"{server.url}/v1/admin/drain?over=1s", headers=fields)
        assert_problem(ask(far), 403, "not-an-administrator")
        for fields in (bearer("anna"), with_key(keys[1]["backend"])):
            assert_problem(ask(fields), 403, "not-granted")
            assert_problem(ask({**fields, **far}), 403, "not-granted")
        assert_problem(ask(with_key("tsk_" + "A" * 43)), 401, "token-invalid")
        assert client.get(f"{server.url}/readyz").status_code == 200
        assert ask({**far, **with_key(keys[1]["admin"])}).status_code == 202
        assert client.get(f"{server.url}/readyz").status_code == 503
        assert client.delete(f"{server.url}/v1/admin/drain").status_code == 200
        assert ask({}).status_code == 202


def test_a_server_that_is_told_to_end_hands_out_slots_evenly(start_server):
    server = start_server(arguments=["--drain", "30"])
    assert_even(slots_of(server, 30, server.terminate), 30)
    assert server.stop() == 0


# Overload.

def test_above_a_mark_nobody_new_is_taken_then_the_idle_go_and_alerts_last(start_server):
    server = start_server(arguments=["--descriptor-mark", "40"], descriptors=120)
    with contextlib.ExitStack() as stack:
        alerts = [stack.enter_context(RawWebSocket(server.port, f"/v1/subscribe?{query('alerts.a')}")) for _ in range(10)]
        others = []
        # Those that come after the server has looked are refused.
        with contextlib.suppress(AssertionError, ConnectionError, EOFError):
            while len(others) < 25:
                others.append(stack.enter_context(RawWebSocket(server.port, f"/v1/subscribe?{query('scores.a')}")))
        assert len(others) >= 10, "the server had no room"
        eventually(lambda: overloaded(server), "the server is above its mark")
        went = eventually(lambda: [one for one in others if is_told_to_go(one)], "some are asked to go", seconds=15)
        for one in went:
            assert one.close_code() == 1013
        assert not any(is_told_to_go(one) for one in alerts), "alerts go before others have gone"
    eventually(lambda: status_of(server) == 200, "the server takes clients again", seconds=15)
    assert refusals(server, "descriptor_mark") >= 1
    assert figures(server)["tocsin_shed_total"] >= 1
    assert len([entry for entry in server.log if entry.get("message") == "the server takes nobody new"]) == 1


def is_told_to_go(one):
    if not hasattr(one, "seen"):
        one.seen = []
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while not any(found["type"] == "going-away" for found in one.seen):
            opcode, payload = one.frame(0.01)
            if opcode == 9:
                one.send(10, payload)
            elif opcode == 1:
                one.seen.append(json.loads(payload))
    return any(found["type"] == "going-away" for found in one.seen)


def test_a_ramp_lets_clients_in_one_after_the_other(start_server):
    server = start_server(arguments=["--ramp", "3", "--ramp-rate", "10"])
    statuses, waits = [], []
    for _ in range(30):
        answer = attempt("127.0.0.1", server.port)
        statuses.append(answer.status_code if answer else None)
        if answer and answer.status_code == 503:
            waits.append(int(answer.headers["retry-after"]))
    assert statuses.count(503) >= 5 and all(1 <= wait <= 3 for wait in waits), (statuses, waits)
    eventually(lambda: all(status_of(server) == 200 for _ in range(30)), "everybody is let in")


# The canary.

TRANSPORTS = ("websocket", "sse", "long_poll")


@pytest.mark.parametrize("flags,preface", [
    (["--connections", "1"], b""), (["--connections-per-address", "1"], b""), (["--connection-rate-per-address", "1:1"], b""),
    (["--ramp", "60", "--ramp-rate", "1"], b""), (["--proxy-protocol-from", "127.0.0.0/8"], b"PROXY UNKNOWN\r\n")])
def test_the_canary_is_held_to_no_limit(start_server, flags, preface):
    server = start_server(arguments=flags, canary=True)
    # The only connection that there is room for.
    with connect(server.port) as raw:
        raw.sendall(preface)

        def came_back():
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            text = head_and_body(raw).content.decode()
            return all(float(re.search(rf'^tocsin_canary_latency_seconds{{transport="{name}"}} (\S+)$', text, re.MULTILINE)[1]) > 0
                       for name in TRANSPORTS)
        eventually(came_back, "it comes back over each transport")


def test_the_canary_stays_while_clients_go(start_server):
    server = start_server(canary=True)

    def came_back():
        found = figures(server)
        return all(found[f'tocsin_canary_latency_seconds{{transport="{name}"}}'] > 0 for name in TRANSPORTS)
    eventually(came_back, "it comes back over each transport")
    with http() as client:
        assert client.post(f"{server.url}/v1/admin/drain?over=20s").status_code == 202
        # Longer than it may be silent.
        time.sleep(4)
        found = figures(server)
        assert [found[f'tocsin_canary_failed{{transport="{name}"}}'] for name in TRANSPORTS] == [0, 0, 0]
        client.delete(f"{server.url}/v1/admin/drain")
        assert client.get(f"{server.url}/readyz").status_code == 200


# Several processes.

def test_limits_hold_over_all_processes(start_server):
    server = start_server(arguments=["--processes", "3", "--loops", "1", "--drain", "1", "--connections-per-address", "9"])

    def fill(stack):
        taken = []
        for _ in range(40):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                raw = stack.enter_context(connect_from("127.0.0.2", server.port))
                raw.sendall(REQUEST)
                answer = head_and_body(raw)
                if answer is not None and answer.status_code == 200:
                    taken.append(raw)
        return taken

    with contextlib.ExitStack() as stack:
        assert len(fill(stack)) == 9
        server.answers()

    def room():
        """None of them is counted any more."""
        with contextlib.ExitStack() as stack:
            return len(fill(stack)) == 9
    eventually(room, "the places are given back", seconds=15)
    # What a process had that is killed is given back, too.
    with contextlib.ExitStack() as stack:
        fill(stack)
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: figures_or_none(server) and len(workers(server)) == 3, "the processes are there again", seconds=20)
    eventually(room, "the places of the killed are given back", seconds=20)


def figures_or_none(server):
    with contextlib.suppress(Exception):
        return figures(server)


def test_a_drain_by_hand_is_for_all_processes(start_server):
    server = start_server(arguments=["--processes", "3", "--loops", "1", "--drain", "1"])
    with contextlib.ExitStack() as stack:
        subscribers = [stack.enter_context(RawWebSocket(server.port, f"/v1/subscribe?{query('scores.a')}")) for _ in range(20)]
        with http() as client:
            assert client.post(f"{server.url}/v1/admin/drain?over=20s").status_code == 202
        for one in subscribers:
            assert one.close_code() == 1012
    with http() as client:
        client.delete(f"{server.url}/v1/admin/drain")

    def serves():
        with contextlib.suppress(websockets.exceptions.WebSocketException, AssertionError, OSError), http() as client:
            return all(client.get(f"{server.url}/readyz", headers={"Connection": "close"}).status_code == 200 for _ in range(10))
    eventually(serves, "all of them take clients again")
