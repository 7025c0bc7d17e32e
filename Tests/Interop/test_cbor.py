"""The subprotocol tocsin.v1.cbor, as the package cbor2 reads and writes it (RFC 8949), beside tocsin.v1."""

import base64
import contextlib
import json
import math
import uuid

import cbor2
import pytest
import websockets.exceptions
import websockets.sync.client

from support import http, publish, publish_many, query, trusting_context

ways = pytest.mark.parametrize("tls, compression", [(False, None), (False, "deflate"), (True, None), (True, "deflate")],
                               ids=["plain", "plain-deflate", "TLS", "TLS-deflate"])


class Client:
    """A WebSocket of either subprotocol: takes and gives objects."""

    def __init__(self, connection, binary):
        self.connection, self.binary = connection, binary

    def receive(self):
        message = self.connection.recv(timeout=10)
        assert isinstance(message, bytes) == self.binary
        return cbor2.loads(message) if self.binary else json.loads(message)

    def send(self, **fields):
        self.connection.send(cbor2.dumps(fields) if self.binary else json.dumps(fields))

    def command(self, **fields):
        """Sends a command, and answers its reply; nothing else may come before it."""
        self.send(**fields)
        reply = self.receive()
        assert reply["type"] == "reply" and reply["id"] == fields["id"], reply
        return reply

    def closed(self):
        """Reads on to the close of the server; answers its code and reason."""
        with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
            while True:
                self.connection.recv(timeout=10)
        return caught.value.rcvd.code, caught.value.rcvd.reason


@contextlib.contextmanager
def client(server, items="", binary=True, tls=False, compression="deflate"):
    """A connection whose hello has been read."""
    address = f"wss://127.0.0.1:{server.tls_port}" if tls else f"ws://127.0.0.1:{server.port}"
    name = "tocsin.v1.cbor" if binary else "tocsin.v1"
    with websockets.sync.client.connect(
            f"{address}/v1/subscribe?{items}", subprotocols=[name], proxy=None, close_timeout=5, compression=compression, max_size=None,
            ssl=trusting_context() if tls else None) as connection:
        assert connection.subprotocol == name
        one = Client(connection, binary)
        one.hello = one.receive()
        assert one.hello["type"] == "hello"
        yield one


def as_cbor(value):
    """What an object of tocsin.v1 is in CBOR: the same, with octets as octets."""
    if isinstance(value, dict) and value.get("encoding") == "base64":
        value = {name: member for name, member in value.items() if name != "encoding"}
        value["data"] = base64.b64decode(value["data"], validate=True)
    return value


def assert_same(found, wanted, where=""):
    """Equal, and of the same types all the way down, members in the same order."""
    assert type(found) is type(wanted), f"{where}: {found!r} is not {wanted!r}"
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for name in wanted:
            assert_same(found[name], wanted[name], f"{where}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, (one, other) in enumerate(zip(found, wanted)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert found == wanted and (not isinstance(wanted, float) or math.copysign(1, found) == math.copysign(1, wanted)), where


@pytest.fixture
def channel():
    """A plain channel that no other test uses."""
    return f"cbor.{uuid.uuid4().hex[:12]}"


PAYLOADS = [
    ("application/json", text) for text in (
        "null", "true", "false", "0", "-1", "23", "24", "255", "256", "65535", "65536", "4294967295", "4294967296", "9007199254740993",
        "18446744073709551615", "18446744073709551616", "-18446744073709551616", "-18446744073709551617", "1" * 60, "-" + "9" * 200,
        "0.0", "-0.0", "-0", "1.5", "0.1", "1e0", "1E3", "-2.5e-3", "3.4028234663852886e38", "5e-324", "1.7976931348623157e308", "100000.0",
        '""', '"a"', '"\u20ac\U0001f413"', r'"\u0000\n\r\t\"\\\/"', r'"\ud83d\udc13"', '"%s"' % ("x" * 23), '"%s"' % ("x" * 256),
        '"%s"' % ("\u20ac" * 30_000), "[]", "{}", "[[[[]]]]", '{"b":1,"a":{"c":[1,2.5,"x",null,true]}}',
        json.dumps(list(range(300))), json.dumps({f"name {number}": number for number in range(300)}),
        '{"encoding":"base64","data":"AP8="}', '{"type":"hello"}',
    )
] + [
    ("text/plain", ""), ("text/plain", "lines\r\n\0\ufeff"), ("text/plain", "AP8="), ("application/octet-stream", b""),
    ("application/octet-stream", b"\0"), ("application/octet-stream", bytes(range(256))), ("application/octet-stream", b"y" * 100_001),
]


@ways
def test_notifications_of_every_kind_of_payload_are_those_of_the_text_protocol(server, channel, tls, compression):
    with http() as session:
        for kind, content in PAYLOADS:
            answer = session.post(f"{server.url}/v1/channels/{channel}", headers={"Content-Type": kind},
                                  content=content.encode() if isinstance(content, str) else content,
                                  params={"event": "goal \u20ac", "key": "k", "priority": "high", "ttl": 600, "replaces": "r"})
            assert answer.status_code == 201, (content, answer.text)
        event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "AP8="}
        answer = session.post(f"{server.url}/v1/channels/{channel}", headers={"Content-Type": "application/cloudevents+json"}, json=event)
        assert answer.status_code == 201, answer.text
    items = query(channel, after="earliest")
    with client(server, items, tls=tls, compression=compression) as binary, client(server, items, binary=False) as text:
        assert list(binary.hello) == list(text.hello) and len(binary.hello["session"]) == 40
        for kind, content in [*PAYLOADS, ("CloudEvent", "")]:
            wanted = text.receive()
            assert wanted["type"] == "notification"
            assert_same(binary.receive(), as_cbor(wanted), f"{kind} {content[:40]!r}")


def test_numbers_and_strings_that_only_json_has_become_what_section_6_2_says(server, channel):
    """RFC 8949 section 6.2: the nearest double, and for half of a surrogate pair the replacement character."""
    with http() as session:
        for text in ("1e400", "-1e400", r'"\ud800"', r'"a\udc00b"', '{"a":1,"a":2}'):
            assert session.post(f"{server.url}/v1/channels/{channel}", content=text).status_code == 201
    with client(server, query(channel, after="earliest")) as binary:
        assert [binary.receive()["data"] for _ in range(5)] == [math.inf, -math.inf, "\ufffd", "a\ufffdb", {"a": 2}]


def test_what_is_sent_is_in_preferred_serialization(server, channel):
    """RFC 8949 section 4.1: cbor2 makes the same bytes of the same objects."""
    publish_many(server, [(channel, data) for data in (1, -500, 2.5, 0.1, "x" * 300, [1] * 30, {"a": {"b": None}}, 1 << 70, [])])
    with client(server, query(channel, after="earliest")) as binary:
        for _ in range(9):
            message = binary.connection.recv(timeout=10)
            # Of itself cbor2 writes all floats in eight bytes; canonical are the shortest, and maps are sorted besides.
            assert len(message) == len(cbor2.dumps(cbor2.loads(message), canonical=True))


@ways
def test_each_command_is_answered_as_in_the_text_protocol(server, channel, tls, compression):
    dashboard = f"dashboards.{channel[5:]}"
    with client(server, tls=tls, compression=compression) as one:
        assert one.command(id=1, type="ping") == {"type": "reply", "id": 1}
        assert one.command(id="\u20ac", type="ping") == {"type": "reply", "id": "\u20ac"}
        reply = one.command(id=-2, type="subscribe", channels=[channel, f"{channel}.>"], after="latest")
        assert list(reply) == ["type", "id", "position"]
        for number, data in enumerate((None, True, -1, 1 << 80, 2.5, "\0\u20ac", [1, {"a": ""}], {})):
            one.send(id=100 + number, type="publish", channel=channel, data=data, event="goal", key="k")
            notification, reply = sorted((one.receive() for _ in range(2)), key=lambda message: message["type"])
            assert (reply["type"], reply["id"], reply["channel"], reply["sequence"]) == ("reply", 100 + number, channel, number + 1)
            assert_same(notification["data"], data)
            assert notification["event"] == "goal" and notification["key"] == "k" and "encoding" not in notification
        assert one.command(id=3, type="unsubscribe", channel=f"{channel}.>") == {"type": "reply", "id": 3}
        assert "error" not in one.command(id=4, type="subscribe", channel=dashboard, rate="5/s", after="latest")
        assert one.command(id=5, type="rate", rate=None, channel=dashboard) == {"type": "reply", "id": 5}
        publish(server, dashboard, {"cpu": 1}, key="cpu")
        assert one.receive()["data"] == {"cpu": 1}
    with http() as session:
        messages = session.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"]
    assert messages[3]["data"] == 1 << 80 and messages[5]["data"] == "\0\u20ac"


def test_an_ack_is_answered_and_told_with_what_is_left(server, channel):
    alerts, user = f"alerts.{channel[5:]}", uuid.uuid4().hex
    publish_many(server, [(alerts, number) for number in range(3)])
    with client(server, query(alerts, user=user, after="latest")) as one:
        assert one.hello["unread"] == 3
        one.send(id=6, type="ack", channel=alerts, through=2)
        told = {message["type"]: message for message in (one.receive() for _ in range(3))}
        assert told["reply"] == {"type": "reply", "id": 6, "unread": 1} and told["unread"] == {"type": "unread", "count": 1}
        assert told["ack"]["data"] == {"channel": alerts, "ranges": [[1, 2]], "dismissed": False}


def test_octets_are_published_as_a_byte_string(server, channel):
    """Protocol section 2: `data` of octets is base64 with "encoding" in JSON, and so a byte string here, both ways."""
    with client(server, query(channel, after="latest")) as one, client(server, query(channel, after="latest"), binary=False) as text:
        for number, octets in enumerate((b"\0\xff", b"", bytes(range(256)) * 200)):
            one.send(id=number, type="publish", channel=channel, data=octets)
            came = {}
            while "reply" not in came or ("error" not in came["reply"] and "notification" not in came):
                message = one.receive()
                came[message["type"]] = message
            assert came["reply"].get("sequence") == number + 1, came["reply"]
            assert came["notification"]["data"] == octets and "encoding" not in came["notification"]
            wanted = text.receive()
            assert wanted["encoding"] == "base64" and base64.b64decode(wanted["data"]) == octets


REFUSALS = {
    "bad_command": {"channel": "a"}, "unknown_command": {"type": "frobnicate"}, "bad_channel": {"type": "subscribe", "channel": "a..b"},
    "bad_position": {"type": "subscribe", "channel": "a", "after": 5}, "bad_data": {"type": "publish", "channel": "a"},
    "not_subscribed": {"type": "unsubscribe", "channel": "a.never"}, "no_user": {"type": "ack", "channel": "alerts.a", "through": 1},
    "bad_rate": {"type": "rate", "rate": "fast", "channel": "a"}, "bad_ack": {"type": "ack", "channel": "alerts.a", "through": "x"},
}


def test_commands_are_refused_with_the_words_of_the_text_protocol(server):
    with client(server) as binary, client(server, binary=False) as text:
        for code, fields in REFUSALS.items():
            refused = binary.command(id=7, **fields)
            assert refused["error"]["code"] == code and refused == text.command(id=7, **fields)
        assert binary.command(id=8, type="ping") == {"type": "reply", "id": 8}


FORMS = {
    "lengths longer than needed": b"\xba\0\0\0\2\x78\x02id\x1b\0\0\0\0\0\0\0\x05\x79\0\x04type\x79\0\x04ping",
    "a map of open length": b"\xbf\x62id\x05\x64type\x64ping\xff",
    "strings in pieces": b"\xa2\x62id\x05\x7f\x62ty\x60\x62pe\xff\x7f\x64ping\xff",
    "self-described": b"\xd9\xd9\xf7" + cbor2.dumps({"id": 5, "type": "ping"}),
    "a small bignum": b"\xa2\x62id\xc2\x41\x05\x64type\x64ping",
}


@pytest.mark.parametrize("name", FORMS)
def test_commands_may_take_any_form_that_cbor_has(server, name):
    with client(server) as one:
        one.connection.send(FORMS[name])
        assert one.receive() == {"type": "reply", "id": 5}


PING = cbor2.dumps({"id": 1, "type": "ping"})
MALFORMED = {
    "nothing": b"",
    "a head alone": b"\xa2",
    "an end too early": PING[:-1],
    "something behind it": PING + b"\0",
    "two commands": PING + PING,
    "a reserved length": b"\x1c",
    "a break alone": b"\xff",
    "a map of an odd number": b"\xbf\x62id\xff",
    "a name twice": b"\xa2\x61a\x01\x61a\x02",
    "a name that is no text": b"\xa1\x01\x02",
    "text that is not UTF-8": b"\xa1\x62id\x61\xff",
    "a surrogate": b"\x63\xed\xa0\x80",
    "undefined": b"\xa1\x62id\xf7",
    "not a number": cbor2.dumps({"id": math.nan}),
    "infinity": cbor2.dumps({"id": math.inf}),
    "a simple value": b"\xf0",
    "a simple value in two bytes": b"\xf8\x14",
    "an unknown tag": b"\xc1\x00",
    "bytes elsewhere than data": b"\xa1\x62id\x41x",
    "a string in a string": b"\x7f\x7f\x61a\xff\xff",
    "bytes in text": b"\x7f\x41a\xff",
    "an array that ends nowhere": b"\x9b" + b"\xff" * 8,
    "a text that ends nowhere": b"\x7b\x7f" + b"\xff" * 7,
    "nested too deep": b"\x81" * 5000,
    "JSON": b'{"id":1,"type":"ping"}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_cbor_or_not_json_in_cbor_closes_with_1007(server, name):
    with client(server) as one:
        one.connection.send(MALFORMED[name])
        code, reason = one.closed()
        assert code == 1007 and reason.startswith("not CBOR"), (code, reason)
    with client(server) as one:
        assert one.command(id=1, type="ping") == {"type": "reply", "id": 1}


def test_text_closes_the_binary_protocol_and_bytes_close_the_text_protocol_with_1003(server):
    with client(server) as one:
        one.connection.send('{"id":1,"type":"ping"}')
        assert one.closed() == (1003, "tocsin.v1.cbor is binary")
    with client(server, binary=False) as one:
        one.connection.send(PING)
        assert one.closed() == (1003, "tocsin.v1 is text")


def test_a_command_that_is_cbor_and_no_object_is_refused_and_the_connection_goes_on(server):
    with client(server) as one:
        for message in (b"\x01", b"\x80", b"\xf6", cbor2.dumps("ping")):
            one.connection.send(message)
            assert one.receive()["error"]["code"] == "bad_command"
        assert one.command(id=1, type="ping") == {"type": "reply", "id": 1}


def test_a_command_of_64_kib_is_taken_and_a_longer_one_closes_with_1009(server, channel):
    with client(server, compression=None) as one:
        room = 64 * 1024 - len(cbor2.dumps({"id": 1, "type": "publish", "channel": channel, "data": "x" * 60_000})) + 60_000
        assert one.command(id=1, type="publish", channel=channel, data="x" * room)["sequence"] == 1
        one.send(id=1, type="publish", channel=channel, data="x" * (room + 1))
        assert one.closed()[0] == 1009


@ways
def test_snapshots_gaps_and_digests_come_in_cbor_too(start_server, tls, compression):
    server = start_server(arguments=["--keep-messages", "5"])
    name = uuid.uuid4().hex[:8]
    publish(server, f"scores.{name}", {"a": 1.5, "b": [None, "\u20ac"]})
    publish(server, f"scores.{name}", {"a": None, "c": 1 << 70}, change="merge")
    publish(server, f"dashboards.{name}", 0.25, key="cpu")
    position = publish(server, f"plain.{name}", -1)["position"]
    for number in range(12):
        publish(server, f"plain.{name}", number)
        publish(server, f"alerts.{name}", number, key=str(number % 2), priority="critical")
    wanted_kinds = {
        query([f"scores.{name}", f"dashboards.{name}"]): ["snapshot", "snapshot"],
        query(f"plain.{name}", after=position): ["gap"] + ["notification"] * 5,
        query(f"alerts.{name}", after="earliest", digest="true"): ["digest"],
    }
    for items, kinds in wanted_kinds.items():
        with client(server, items, tls=tls, compression=compression) as binary, client(server, items, binary=False) as text:
            assert_same({**binary.hello, "session": ""}, {**text.hello, "session": ""})
            for kind in kinds:
                wanted = text.receive()
                assert wanted["type"] == kind
                assert_same(binary.receive(), as_cbor(wanted), items)
