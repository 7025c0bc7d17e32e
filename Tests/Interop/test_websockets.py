"""The package websockets against the WebSocket transport, and frames by hand for what no library sends."""

import contextlib
import json
import logging
import struct
import time

import pytest
import websockets.exceptions
import websockets.sync.client

from support import Promise, RawWebSocket, exchange, publish, publish_many, query, trusting_context


@contextlib.contextmanager
def websocket(server, items="", tls=False, **options):
    options.setdefault("subprotocols", ["tocsin.v1"])
    address = f"wss://127.0.0.1:{server.tls_port}" if tls else f"ws://127.0.0.1:{server.port}"
    with websockets.sync.client.connect(f"{address}/v1/subscribe{'?' if items else ''}{items}", proxy=None, close_timeout=5,
                                        ssl=trusting_context() if tls else None, **options) as connection:
        yield connection


def receive(connection, kind=None, timeout=10):
    """The next message; with a kind, the next of that kind."""
    deadline = time.monotonic() + timeout
    while True:
        message = json.loads(connection.recv(timeout=max(0.01, deadline - time.monotonic())))
        if kind is None or message["type"] == kind:
            return message


def command(connection, **fields):
    """Sends a command and answers its reply; nothing else may come before it."""
    connection.send(json.dumps(fields))
    reply = receive(connection)
    assert reply["type"] == "reply" and reply["id"] == fields["id"], reply
    return reply


both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


@both
@pytest.mark.parametrize("compression", [None, "deflate"], ids=["as-it-is", "offering-compression"])
def test_a_websocket_gets_hello_and_then_what_was_and_is_published(server, channel, tls, compression):
    publish_many(server, [(channel, number) for number in range(20)])
    with websocket(server, query(channel, after="earliest"), tls, compression=compression) as connection:
        assert connection.subprotocol == "tocsin.v1"
        hello = receive(connection)
        assert hello["type"] == "hello" and hello["heartbeat"] == 1 and hello["position"]
        assert len(hello["session"]) == 40
        promise = Promise()
        for number in range(40):
            if number >= 20:
                publish(server, channel, number)
            message = receive(connection)
            promise.see(message)
            assert message["data"] == number


def test_the_subprotocol_is_selected_only_when_it_is_offered(server):
    with websocket(server, subprotocols=None) as connection:
        assert connection.subprotocol is None
        assert receive(connection)["type"] == "hello"
    with websocket(server, subprotocols=["other.v9", "tocsin.v1"]) as connection:
        assert connection.subprotocol == "tocsin.v1"


def test_a_websocket_without_after_begins_with_the_state_of_a_score_and_with_latest_without(server, channel):
    publish(server, channel, "old")
    with websocket(server, query(channel)) as connection:
        receive(connection, "hello")
        snapshot = receive(connection)
        assert snapshot["type"] == "snapshot" and snapshot["data"] == "old" and snapshot["sequence"] == 1
    with websocket(server, query(channel, after="latest")) as connection:
        receive(connection, "hello")
        publish(server, channel, "new")
        message = receive(connection)
        assert message["data"] == "new" and message["sequence"] == 2


@both
def test_the_commands_subscribe_publish_ping_and_unsubscribe_are_answered(server, channel, tls):
    with websocket(server, tls=tls) as connection:
        assert receive(connection)["type"] == "hello"
        position = publish(server, channel, 0)["position"]
        reply = command(connection, id=1, type="subscribe", channel=channel, after="earliest")
        assert "error" not in reply and reply["position"]
        assert receive(connection)["data"] == 0
        connection.send(json.dumps({"id": "two", "type": "publish", "channel": channel, "data": {"x": 1}, "event": "goal"}))
        both_of_them = [receive(connection), receive(connection)]
        reply = next(message for message in both_of_them if message["type"] == "reply")
        message = next(message for message in both_of_them if message["type"] == "notification")
        assert reply["id"] == "two" and reply["channel"] == channel and reply["sequence"] == 2
        assert reply["position"] == message["position"] != position
        assert message["data"] == {"x": 1} and message["event"] == "goal"
        assert command(connection, id=3, type="ping") == {"type": "reply", "id": 3}
        assert command(connection, id=4, type="unsubscribe", channel=channel) == {"type": "reply", "id": 4}
        publish(server, channel, "nobody hears it")
        assert command(connection, id=5, type="ping") == {"type": "reply", "id": 5}


def test_subscribe_takes_several_channels_and_a_position_of_each_subscription(server, channel):
    names = [f"{channel}.{token}" for token in "abc"]
    publish_many(server, [(name, 0) for name in names])
    positions = [publish(server, name, 1)["position"] for name in names]
    publish_many(server, [(name, 2) for name in names])
    with websocket(server) as connection:
        receive(connection, "hello")
        assert "error" not in command(connection, id=1, type="subscribe", channels=names[:2], after=positions[1])
        assert [receive(connection)["channel"] for _ in range(2)] == names[:2]
        assert "error" not in command(connection, id=2, type="subscribe", channel=names[2], after="earliest")
        promise = Promise()
        for expected in range(3):
            message = receive(connection)
            promise.see(message)
            assert (message["channel"], message["data"]) == (names[2], expected)


def refusals(channel):
    many = [f"{channel}.{number}" for number in range(101)]
    return {
        "bad_command: no type": ("bad_command", {"channel": channel}),
        "unknown_command": ("unknown_command", {"type": "frobnicate"}),
        "bad_channel: an empty token": ("bad_channel", {"type": "subscribe", "channel": "scores..a"}),
        "bad_channel: > in the middle": ("bad_channel", {"type": "subscribe", "channel": "scores.>.a"}),
        "bad_channel: publish to a pattern": ("bad_channel", {"type": "publish", "channel": "scores.*", "data": 1}),
        "bad_position": ("bad_position", {"type": "subscribe", "channel": channel, "after": "not a position"}),
        "bad_data: publish without data": ("bad_data", {"type": "publish", "channel": channel}),
        "not_subscribed": ("not_subscribed", {"type": "unsubscribe", "channel": f"{channel}.never"}),
        "too_many_channels": ("too_many_channels", {"type": "subscribe", "channels": many}),
    }


@pytest.mark.parametrize("name", refusals("scores.x"))
def test_a_command_that_is_refused_says_why_and_the_connection_goes_on(server, channel, name):
    code, fields = refusals(channel)[name]
    with websocket(server) as connection:
        receive(connection, "hello")
        reply = command(connection, id=7, **fields)
        assert reply["error"]["code"] == code, reply
        assert isinstance(reply["error"]["message"], str) and reply["error"]["message"]
        assert command(connection, id=8, type="ping") == {"type": "reply", "id": 8}


@pytest.mark.parametrize("first, second", [("a", "a"), ("a", "*"), (">", "a.b"), ("a.*", "*.b")])
def test_two_subscriptions_of_one_websocket_cannot_overlap(server, channel, first, second):
    with websocket(server) as connection:
        receive(connection, "hello")
        assert "error" not in command(connection, id=1, type="subscribe", channel=f"{channel}.{first}")
        reply = command(connection, id=2, type="subscribe", channel=f"{channel}.{second}")
        assert reply["error"]["code"] == "overlapping_subscription", reply
        assert "error" not in command(connection, id=3, type="unsubscribe", channel=f"{channel}.{first}")
        assert "error" not in command(connection, id=4, type="subscribe", channel=f"{channel}.{second}")


def test_the_channels_of_one_url_may_overlap_and_a_message_still_comes_once(server, channel):
    items = query([f"{channel}.a", f"{channel}.*", f"{channel}.>"], after="latest")
    with websocket(server, items) as connection:
        receive(connection, "hello")
        for number in range(3):
            publish(server, f"{channel}.a", number)
        assert [receive(connection)["data"] for _ in range(3)] == [0, 1, 2]
        assert command(connection, id=1, type="ping") == {"type": "reply", "id": 1}


def test_an_id_of_more_than_64_bytes_is_refused(server):
    with websocket(server) as connection:
        receive(connection, "hello")
        connection.send(json.dumps({"id": "x" * 65, "type": "ping"}))
        assert receive(connection)["error"]["code"] == "bad_command"
        identifier = "y" * 64
        assert command(connection, id=identifier, type="ping") == {"type": "reply", "id": identifier}


def test_a_command_of_64_kib_is_taken(server, channel):
    with websocket(server) as connection:
        receive(connection, "hello")
        frame = json.dumps({"id": 1, "type": "publish", "channel": channel, "data": ""})
        text = "z" * (64 * 1024 - len(frame))
        reply = command(connection, id=1, type="publish", channel=channel, data=text)
        assert reply["sequence"] == 1


def test_the_library_answers_the_pings_of_the_server(server, caplog):
    with caplog.at_level(logging.DEBUG, logger="websockets.client"):
        with websocket(server, ping_interval=None) as connection:
            receive(connection, "hello")
            with pytest.raises(TimeoutError):
                connection.recv(timeout=3.2)
            pings = [record.getMessage() for record in caplog.records if "< PING" in record.getMessage()]
            pongs = [record.getMessage() for record in caplog.records if "> PONG" in record.getMessage()]
            assert 2 <= len(pings) <= 5 and len(pongs) == len(pings)


def test_the_server_answers_the_pings_of_the_library(server):
    with websocket(server) as connection:
        assert connection.ping(b"payload").wait(5)


def test_a_close_of_the_client_is_answered_with_the_same_code(server):
    with websocket(server) as connection:
        receive(connection, "hello")
        connection.close(1000, "bye")
        assert connection.close_code == 1000
    with RawWebSocket(server.port) as raw:
        raw.send(8, struct.pack("!H", 1000))
        assert raw.close_code() in (1000, 1001)


PING = json.dumps({"id": 1, "type": "ping"}).encode()
FAULTS = {
    "an unmasked frame": (1002, [(1, PING, True, False, 0)]),
    "a reserved opcode for data": (1002, [(3, b"", True, True, 0)]),
    "a reserved opcode for control": (1002, [(11, b"", True, True, 0)]),
    "a reserved bit": (1002, [(1, PING, True, True, 4)]),
    "a fragmented ping": (1002, [(9, b"", False, True, 0)]),
    "a ping of 126 bytes": (1002, [(9, b"x" * 126, True, True, 0)]),
    "a continuation first": (1002, [(0, PING, True, True, 0)]),
    "a new message inside of another": (1002, [(1, b"{", False, True, 0), (1, PING, True, True, 0)]),
    "a close of one byte": (1002, [(8, b"\x03", True, True, 0)]),
    "a close with a code that is not sent": (1002, [(8, struct.pack("!H", 1005), True, True, 0)]),
    "a close with a code below 1000": (1002, [(8, struct.pack("!H", 999), True, True, 0)]),
    "a binary message": (1003, [(2, PING, True, True, 0)]),
    "text that is not UTF-8": (1007, [(1, b"\xff\xfe", True, True, 0)]),
    "text whose fragments are not UTF-8": (1007, [(1, b'{"id":"\xc3', False, True, 0), (0, b'(","type":"ping"}', True, True, 0)]),
    "a surrogate in UTF-8": (1007, [(1, b'"\xed\xa0\x80"', True, True, 0)]),
    "text that is not JSON": (1007, [(1, b"{'id':1}", True, True, 0)]),
    "text that is nothing": (1007, [(1, b"", True, True, 0)]),
    "a message of more than 64 KiB": (1009, [(1, b'"' + b"x" * 65536 + b'"', True, True, 0)]),
    "fragments of more than 64 KiB": (1009, [(1, b"x" * 40000, False, True, 0), (0, b"x" * 40000, True, True, 0)]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_websocket_that_breaks_the_rules_is_closed_with_the_code_that_says_why(server, channel, name):
    code, frames = FAULTS[name]
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") as raw:
        for frame in frames:
            raw.send(*frame)
        assert raw.close_code() == code
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                raw.frame(5)
    server.answers()


def test_a_frame_that_says_it_is_huge_is_refused_before_it_comes(server):
    with RawWebSocket(server.port) as raw:
        raw.raw.sendall(struct.pack("!BBQ", 0x81, 0xFF, 1 << 62) + b"mask" + b"x" * 100)
        assert raw.close_code() == 1009
    with RawWebSocket(server.port) as raw:
        raw.raw.sendall(struct.pack("!BBQ", 0x81, 0xFF, 1 << 63) + b"mask" + b"x" * 100)
        assert raw.close_code() in (1002, 1009)
    server.answers()


def test_fragments_with_a_ping_between_them_are_one_command(server):
    with RawWebSocket(server.port) as raw:
        raw.send(1, PING[:5], final=False)
        raw.send(9, b"between")
        raw.send(0, PING[5:10], final=False)
        raw.send(0, PING[10:])
        frames = []
        while len(frames) < 3:
            opcode, payload = raw.frame()
            if opcode != 9:
                frames.append((opcode, payload))
        assert json.loads(frames[0][1])["type"] == "hello"
        assert frames[1] == (10, b"between")
        assert json.loads(frames[2][1]) == {"type": "reply", "id": 1}


def test_a_frame_that_comes_byte_by_byte_is_understood(server):
    with RawWebSocket(server.port) as raw:
        for byte in b"\x81" + bytes([0x80 | len(PING)]) + b"\0\0\0\0" + PING:
            raw.raw.sendall(bytes([byte]))
            time.sleep(0.002)
        assert raw.texts(2)[1] == {"type": "reply", "id": 1}


def test_a_command_right_behind_the_handshake_is_not_lost(server):
    head = (b"GET /v1/subscribe HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    command_frame = b"\x81" + bytes([0x80 | len(PING)]) + b"\0\0\0\0" + PING
    answer, _ = exchange(server.port, head + command_frame + b"\x88\x82\0\0\0\0\x03\xe8", 5)
    assert answer.status_code == 101
    assert answer.headers["sec-websocket-accept"] == "C/0nmHhBztSRGR1CwL6Tf4ZjwpY="
    assert b'"type":"reply"' in answer.content


def test_a_websocket_that_a_library_opens_on_a_bad_channel_gets_the_problem(server):
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        with websocket(server, query("scores..a")):
            pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body)["type"] == "/problems/bad-channel"
