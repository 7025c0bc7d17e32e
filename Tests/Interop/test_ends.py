"""What ends in the midst of what is done for it: the server lives, and nothing is lost."""

import json
import socket
import struct
import threading
import time

import h2.config
import h2.connection
import h2.events

from support import RawAnswer, connect, http, publish, read_to_end
from test_sessions import Events, listed, say
from test_websockets import command, receive, websocket


def reset(raw):
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


def test_a_reset_behind_requests_that_are_being_answered(server):
    """The socket refuses the answer while the rest of the requests still waits in it."""
    requests = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 40
    for _ in range(200):
        raw = connect(server.port)
        raw.sendall(requests)
        reset(raw)
    server.answers()


def test_a_reset_behind_commands(server):
    handshake = (b"GET /v1/subscribe HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    ping = json.dumps({"id": 1, "type": "ping"}).encode()
    masked = bytes([0x81, 0x80 | len(ping), 0, 0, 0, 0]) + ping
    for number in range(100):
        raw = connect(server.port)
        raw.sendall(handshake)
        if number % 2:
            raw.recv(4096)
        raw.sendall(masked * 50)
        reset(raw)
    server.answers()


def test_a_half_close_behind_requests_that_are_being_answered(server):
    """Whoever says that nothing more comes still reads: all that was asked is answered."""
    one = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for number in range(400):
        count = 2 + number % 30
        with connect(server.port) as raw:
            raw.sendall(one * count)
            raw.shutdown(socket.SHUT_WR)
            received, closed = read_to_end(raw)
        assert closed and received.count(b"HTTP/1.1 200 ") == count


def test_a_half_close_behind_a_publish_and_behind_a_poll(server, channel):
    for _ in range(20):
        with connect(server.port) as raw:
            raw.sendall(f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n1".encode())
            raw.shutdown(socket.SHUT_WR)
            received, closed = read_to_end(raw)
        assert closed and RawAnswer(received).status_code == 201
    poll = f"GET /v1/subscribe?channel={channel}&after=earliest HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with connect(server.port) as raw:
        raw.sendall(poll)
        raw.shutdown(socket.SHUT_WR)
        received, closed = read_to_end(raw)
    assert closed and RawAnswer(received).status_code == 200 and received.count(b'"sequence":') == 20


def test_a_half_close_behind_a_poll_that_waits_ends_it(server, channel):
    position = publish(server, channel, 1)["position"]
    with connect(server.port) as raw:
        raw.sendall(f"GET /v1/subscribe?channel={channel}&after={position}&wait=30 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        time.sleep(0.1)
        raw.shutdown(socket.SHUT_WR)
        received, closed = read_to_end(raw, 5)
    assert closed and not received


class HTTP2:
    """One HTTP/2 connection on the plain port."""

    def __init__(self, server):
        self.raw = connect(server.port)
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
        self.connection.initiate_connection()
        self.flush()

    def flush(self):
        self.raw.sendall(self.connection.data_to_send())

    def request(self, *fields, end=True):
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, list(fields), end_stream=end)
        self.flush()
        return stream

    def events(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.raw.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.raw.recv(65536)
            except TimeoutError:
                return
            if not data:
                return
            yield from self.connection.receive_data(data)
            self.flush()


def test_a_tunnel_that_says_it_has_a_length(server, channel):
    peer = HTTP2(server)
    list(peer.events(0.3))
    stream = peer.request(
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", f"/v1/subscribe?channel={channel}"),
        (":authority", "127.0.0.1"), ("sec-websocket-version", "13"), ("content-length", "99999999"), end=False)
    answered = [event for event in peer.events(1) if isinstance(event, (h2.events.ResponseReceived, h2.events.StreamReset))]
    assert answered and answered[0].stream_id == stream
    publish(server, channel, 1)
    peer.raw.close()
    server.answers()


def test_polls_of_a_connection_that_is_reset_when_the_first_is_answered(server, channel):
    for _ in range(5):
        peer = HTTP2(server)
        for number in range(60):
            peer.request((":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1"),
                         (":path", f"/v1/subscribe?channel={channel}.{number}&after=latest&wait=1"))
        for event in peer.events(4):
            if isinstance(event, h2.events.ResponseReceived):
                break
        reset(peer.raw)
    server.answers()


def test_a_session_that_ends_with_an_early_one_of_its_commands(server, channel):
    for number in range(30):
        publish(server, f"{channel}.{number}", "x" * 20_000)
    for _ in range(10):
        raw = connect(server.port)
        raw.sendall(b"GET /v1/subscribe?subscriptions=%5B%5D HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
        text = b""
        while b'"session":"' not in text:
            text += raw.recv(4096)
        session = text.split(b'"session":"')[1][:40].decode()
        commands = [{"id": n, "type": "subscribe", "channel": f"{channel}.{n}", "after": "earliest"} for n in range(30)]
        thread = threading.Thread(target=say, args=(server, session, commands))
        thread.start()
        raw.recv(100)
        reset(raw)
        thread.join(10)
    server.answers()


def test_an_unsubscribe_is_whole_or_not_at_all(server, channel):
    with websocket(server, "") as connection:
        receive(connection)
        command(connection, id=1, type="subscribe", channel=f"{channel}.b")
        reply = command(connection, id=2, type="unsubscribe", channels=[f"{channel}.b", f"{channel}.nope"])
        assert reply["error"]["code"] == "not_subscribed"
        publish(server, f"{channel}.b", 1)
        assert receive(connection)["data"] == 1
        assert "error" not in command(connection, id=3, type="unsubscribe", channels=[f"{channel}.b", f"{channel}.b"])
        publish(server, f"{channel}.b", 2)
        assert "error" not in command(connection, id=4, type="ping")


def test_too_many_channels_are_not_compared_with_each_other(server):
    with websocket(server, "") as connection:
        session = receive(connection)["session"]
        channels = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz"] * 10
        started = time.monotonic()
        assert say(server, session, {"id": 1, "type": "subscribe", "channels": channels}).json()["error"]["code"] == "too_many_channels"
        assert time.monotonic() - started < 5
    with http() as client:
        new = client.post(f"{server.url}/v1/subscribe", json={"subscriptions": [], "session": "new"}).json()["session"]
    assert say(server, new, {"id": 1, "type": "subscribe", "channels": channels}).json()["error"]["code"] == "too_many_channels"


def test_a_poll_of_a_user_gets_what_each_of_its_subscriptions_begins_with(server, channel):
    alerts, scores = f"alerts.{channel.split('.')[1]}", f"scores.{channel.split('.')[1]}x"
    for number in range(3):
        publish(server, alerts, number)
    publish(server, scores, {"n": 1})
    for _ in range(20):
        places = [{"channels": [alerts]}, {"channels": [scores]}]
        found = []
        with http() as client:
            for _ in range(3):
                answer = client.post(
                    f"{server.url}/v1/subscribe", json={"subscriptions": places, "session": "new", "wait": 1, "user": "u"}
                ).json()
                found += [(message["type"], message["data"]) for message in answer["messages"]]
                for place, now in zip(places, answer["subscriptions"]):
                    place["after"] = now["position"]
                if len(found) == 4:
                    break
        assert sorted(map(str, found)) == sorted(map(str, [("notification", 0), ("notification", 1), ("notification", 2),
                                                           ("snapshot", {"n": 1})]))


def test_alerts_begin_with_what_is_unread_in_a_session_of_polls(server, channel):
    alerts = f"alerts.{channel.split('.')[1]}"
    publish(server, alerts, 1)
    with http() as client:
        body = {"subscriptions": [], "session": "new", "wait": 0, "user": "u"}
        session = client.post(f"{server.url}/v1/subscribe", json=body).json()["session"]
        place = say(server, session, {"id": 1, "type": "subscribe", "channel": alerts}).json()["position"]
        body = {"subscriptions": [{"channels": [alerts], "after": place}], "session": session, "wait": 2, "user": "u"}
        assert [message["data"] for message in client.post(f"{server.url}/v1/subscribe", json=body).json()["messages"]] == [1]


def test_a_further_subscription_of_a_stream_is_read_on(server, channel):
    for number in range(20):
        publish(server, channel, number)
    with Events(server, "2", listed()) as events:
        say(server, events.hello["session"], {"id": 1, "type": "subscribe", "channel": channel, "after": "earliest"})
        events.wait("notification", 20)
