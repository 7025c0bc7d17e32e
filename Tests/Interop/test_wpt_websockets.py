"""What the Web Platform Tests of WebSocket ask of a server, in Chromium over HTTP/1.1 and HTTP/2 (RFC 8441), and byte by byte.

The first line of each test names their cases that it stands for, in their folder `websockets/`.
"""

import base64
import hashlib
import json
import os
import re
import struct

import pytest

from browsers import Socket, Source
from support import RawHTTP2, RawWebSocket, connect, eventually, publish
from wpt import allowed, base, channel, metric, post_all, server, started, stranger, subscribe

__all__ = ["allowed", "base", "channel", "server", "started", "stranger"]
pytestmark = pytest.mark.timeout(100)


# The opening handshake

CHOICES = [
    ([], ""), (["tocsin.v1"], "tocsin.v1"), (["other.v9", "tocsin.v1"], "tocsin.v1"), (["tocsin.v1", "tocsin.v1.cbor"], "tocsin.v1"),
    (["tocsin.v1.cbor", "tocsin.v1"], "tocsin.v1.cbor"), (["tocsin.v1.x", "x", "tocsin.v1.cbor"], "tocsin.v1.cbor"),
    (["other.v9"], None), (["TOCSIN.V1"], None), (["a", "b", "c"], None),
]


def test_the_first_subprotocol_that_is_known_is_chosen_and_none_if_none_is(chromium, base, channel):
    """websockets/Create-valid-url-protocol, -array-protocols, -protocol-empty, Create-protocols-repeated-case-insensitive."""
    for offered, chosen in CHOICES:
        socket = Socket(chromium, subscribe(base, channel), offered)
        state = socket.opened()
        if chosen is None:
            # A browser that offered subprotocols does not go on without one.
            assert not state["opened"] and state["closed"] == {"code": 1006, "reason": "", "clean": False}, offered
        else:
            assert state["opened"] and state["protocol"] == chosen, offered
            message = socket.messages(1)[0]
            assert isinstance(message, list) if chosen.endswith("cbor") else json.loads(message)["type"] == "hello", offered


def test_compression_is_negotiated_and_shown(chromium, base, channel):
    """websockets/Create-extensions-empty: what was agreed on, and nothing else."""
    state = Socket(chromium, subscribe(base, channel)).opened()
    assert [part.strip() for part in state["extensions"].split(";")] == [
        "permessage-deflate", "server_no_context_takeover", "client_no_context_takeover"]


@pytest.mark.parametrize("carrier", ["http1", "http2"])
def test_a_server_that_does_not_compress_agrees_on_no_extension(start_server, chromium, channel, carrier):
    """websockets/Create-extensions-empty."""
    server = start_server(arguments=["--no-compression"])
    base = server.url if carrier == "http1" else server.tls_url
    chromium.open(f"{base}/healthz")
    socket = Socket(chromium, subscribe(base, channel, after="latest"))
    assert socket.opened()["opened"] and socket.state()["extensions"] == ""
    publish(server, channel, "x" * 1000)
    assert socket.objects(2)[1]["data"] == "x" * 1000
    chromium.open("about:blank")


def test_the_answer_to_the_handshake_has_the_fields_of_its_version_of_http_and_no_others(server, chromium, base, channel):
    """websockets/opening-handshake/*; RFC 6455 section 4.2.2, RFC 8441 section 5."""
    assert Socket(chromium, subscribe(base, channel)).opened()["opened"]
    answer = chromium.told("Network.webSocketHandshakeResponseReceived")[0]["response"]
    asked = chromium.told("Network.webSocketWillSendHandshakeRequest")[0]["request"]["headers"]
    assert {name.lower(): value for name, value in asked.items()}["origin"] == base
    fields = {name.lower(): value for name, value in answer["headers"].items()}
    assert fields["sec-websocket-protocol"] == "tocsin.v1" and fields["sec-websocket-extensions"].startswith("permessage-deflate")
    assert not {"content-length", "transfer-encoding", "content-type", "sec-websocket-version"} & set(fields), fields
    if base == server.tls_url:
        assert answer["status"] == 200 and not {"upgrade", "connection", "sec-websocket-accept"} & set(fields), fields
    else:
        key = {name.lower(): value for name, value in asked.items()}["sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        assert answer["status"] == 101 and fields["sec-websocket-accept"] == accept
        assert fields["upgrade"].lower() == "websocket" and fields["connection"].lower() == "upgrade"


def test_over_http2_websockets_are_streams_of_the_connection_that_is_open_already(server, chromium, base, channel):
    """websockets/ with wpt_flags=h2: RFC 8441. The metrics are asked for on a connection of their own."""
    before = metric(server, "tocsin_connections_accepted_total")
    sockets = [Socket(chromium, subscribe(base, channel, after="latest")) for _ in range(5)]
    for socket in sockets:
        socket.messages(1)
    more = metric(server, "tocsin_connections_accepted_total") - before - 1
    assert more == 0 if base == server.tls_url else more >= 5, more
    publish(server, channel, "for all")
    for socket in sockets:
        assert socket.objects(2)[1]["data"] == "for all"


def test_websockets_streams_polls_and_publications_share_one_http2_connection(server, chromium, channel):
    """websockets/ with wpt_flags=h2, beside everything else that a page does with the server."""
    chromium.open(f"{server.tls_url}/healthz")
    before = metric(server, "tocsin_connections_accepted_total")
    url = subscribe(server.tls_url, channel, after="latest")
    sockets = [Socket(chromium, url) for _ in range(15)]
    sources = [Source(chromium, url) for _ in range(15)]
    position = json.loads(sockets[0].messages(1)[0])["position"]
    for one in (*sockets, *sources):
        one.messages(1) if isinstance(one, Socket) else one.begun()
    chromium.run("(url) => { window.poll = fetch(url, {headers: {Prefer: 'wait=20'}}).then(answer => answer.json()) }",
                 subscribe(server.tls_url, channel, after=position))
    statuses = chromium.run("""async url => {
        const headers = {"Content-Type": "application/json"}
        const send = number => fetch(url, {method: "POST", body: String(number), headers})
        return (await Promise.all([...Array(10).keys()].map(send))).map(answer => answer.status)
    }""", f"{server.tls_url}/v1/channels/{channel}")
    assert statuses == [201] * 10
    assert chromium.run("async () => (await window.poll).messages.length") >= 1
    orders = [[message["data"] for message in socket.objects(11)[1:]] for socket in sockets]
    orders += [[json.loads(event["data"])["data"] for event in source.events(10)] for source in sources]
    assert all(order == orders[0] for order in orders) and sorted(orders[0]) == list(range(10))
    assert metric(server, "tocsin_connections_accepted_total") - before - 1 == 0
    chromium.open("about:blank")


def extended_connect(client, *headers, path="/v1/subscribe", protocol="websocket"):
    """Opens a stream by extended CONNECT; answers the status and the fields of the answer."""
    stream, client.next_stream = client.next_stream, client.next_stream + 2
    head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", path), (":authority", "localhost"), *headers]
    client.state.send_headers(stream, head)
    client.flush()
    for event in client.events(10):
        if type(event).__name__ == "ResponseReceived" and event.stream_id == stream:
            fields = {name.decode(): value.decode() for name, value in event.headers}
            return int(fields.pop(":status")), fields
    raise AssertionError("no answer")


def test_extended_connect_is_offered_and_answered_by_the_same_rules_as_an_upgrade(server, allowed, stranger):
    """websockets/opening-handshake/*, RFC 8441 sections 3 to 5: byte by byte."""
    version = ("sec-websocket-version", "13")
    with RawHTTP2(server.port) as client:
        status, fields = extended_connect(client, version, ("sec-websocket-protocol", "other, tocsin.v1"))
        assert client.state.remote_settings.get(8) == 1
        assert status == 200 and fields["sec-websocket-protocol"] == "tocsin.v1"
        assert not {"sec-websocket-accept", "upgrade", "connection", "content-length"} & set(fields)
        assert extended_connect(client, version, ("origin", allowed.url))[0] == 200
        assert extended_connect(client, version, ("origin", stranger.url))[0] == 403
        assert extended_connect(client, version, ("sec-websocket-protocol", "a, a"))[0] == 400
        assert extended_connect(client, version, path="/v1/subscribe?channel=a..b")[0] == 400
        assert extended_connect(client, version, path="/nowhere")[0] == 404
        assert extended_connect(client, ("sec-websocket-version", "12"))[0] == 400
        assert extended_connect(client)[0] == 400
        assert extended_connect(client, version, protocol="connect-udp")[0] == 501
        assert extended_connect(client, version)[0] == 200


@pytest.mark.parametrize("fields, status, chosen", [
    (["tocsin.v1"], 101, "tocsin.v1"), (["x, tocsin.v1"], 101, "tocsin.v1"), (["x", "tocsin.v1.cbor", "tocsin.v1"], 101, "tocsin.v1.cbor"),
    ([" ,, tocsin.v1 ,"], 101, "tocsin.v1"), (["x"], 101, None), ([], 101, None), (["Tocsin.v1"], 101, None),
    (["tocsin.v1, tocsin.v1"], 400, None), (["tocsin.v1", "tocsin.v1"], 400, None), (["toc sin"], 400, None), (["a/b"], 400, None),
])
def test_the_fields_of_the_subprotocol_are_read_as_a_list_of_tokens(server, fields, status, chosen):
    """websockets/Create-protocols-repeated, Create-asciiSep-protocol-string; RFC 6455 section 4.1 item 10."""
    lines = "".join(f"Sec-WebSocket-Protocol: {value}\r\n" for value in fields)
    with connect(server.port) as raw:
        raw.sendall((f"GET /v1/subscribe HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}"
                     f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        head = raw.recv(4096).split(b"\r\n\r\n")[0].decode("latin-1")
    assert head.startswith(f"HTTP/1.1 {status} "), head
    assert re.findall(r"(?im)^sec-websocket-protocol: (.*)\r$", head + "\r") == ([chosen] if chosen else []), head


# Messages

MESSAGES = {
    "nothing": "",
    "a few letters": "data",
    "null": "null",
    "a null character": "a\0b",
    "more than ASCII": "\xa5\xa5\xa5\xa5\xa5\xa5",
    "a character of two units": "\U00010000\U0001f413",
    "a mark first": "\ufeffa",
    "125 bytes": "x" * 125,
    "126 bytes": "x" * 126,
    "127 bytes": "x" * 127,
    "65535 bytes": "x" * 65535,
    "65536 bytes": "x" * 65536,
    "65537 bytes": "x" * 65537,
    "characters over the ends of frames": "\u20ac" * 30_000,
}


def test_texts_come_back_from_the_echo_as_they_were_sent(chromium, base):
    """websockets/Send-data, -0byte-data, -null, -unicode-data, -paired-surrogates, -65K-data, extended-payload-length."""
    socket = Socket(chromium, f"{base}/echo", [])
    assert socket.opened()["opened"] and socket.state()["protocol"] == ""
    socket.send(*MESSAGES.values())
    assert socket.messages(len(MESSAGES)) == list(MESSAGES.values())
    socket.send("\ud800", "a\udfffb")
    assert socket.messages(len(MESSAGES) + 2)[-2:] == ["\ufffd", "a\ufffdb"]
    socket.close()
    assert socket.closed()["clean"]


def test_bytes_come_back_from_the_echo_as_they_were_sent(chromium, base):
    """websockets/Send-binary-arraybuffer, -arraybufferview-*-offset-length, -blob, -65K-arraybuffer, binary/*."""
    socket = Socket(chromium, f"{base}/echo", ["whatever"])
    assert socket.opened()["protocol"] == "whatever"
    sent = [b"", b"\0", bytes(range(256)), b"\xff\xfe\xed\xa0\x80", b"y" * 125, b"y" * 126, b"y" * 65535, b"y" * 65536]
    socket.send_bytes(*sent)
    assert [bytes(message) for message in socket.messages(len(sent))] == sent
    chromium.run("""name => {
        const bytes = new Uint8Array(64).map((_, index) => index)
        const {socket} = window.followed[name]
        socket.send(new Float64Array(bytes.buffer, 8, 2))
        socket.send(new DataView(bytes.buffer, 3, 5))
        socket.send(new Blob([bytes, "text"]))
    }""", socket.name)
    assert [bytes(message) for message in socket.messages(len(sent) + 3)[len(sent):]] == [
        bytes(range(8, 24)), bytes(range(3, 8)), bytes(range(64)) + b"text"]


def test_a_mebibyte_comes_back_and_hundreds_of_messages_keep_their_order(chromium, base):
    """websockets/Send-65K-data and bufferedAmount-*: more than any window holds."""
    socket = Socket(chromium, f"{base}/echo", [])
    assert socket.opened()["opened"]
    chromium.run("""name => {
        const {socket} = window.followed[name]
        const bytes = new Uint8Array(1 << 20)
        for (let at = 0; at < bytes.length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536))
        window.sent = [bytes, "z".repeat(1 << 20), ...Array(500).keys()].map(each => typeof each === "number" ? String(each) : each)
        for (const each of window.sent) socket.send(each)
    }""", socket.name)
    compared = """name => {
        const got = window.followed[name].got
        if (got.length < window.sent.length) return "short"
        return window.sent.every((each, at) => typeof each === "string" ? got[at] === each
            : got[at].length === each.length && each.every((byte, index) => got[at][index] === byte))
    }"""
    eventually(lambda: chromium.run(compared, socket.name) is True, "everything is back as it was sent", 30)
    socket.close(1000)
    assert socket.closed()["clean"]


def test_large_notifications_come_over_a_websocket(server, chromium, base, channel):
    """websockets/Send-65K-data, the other way: a mebibyte each, more than the window of a stream."""
    socket = Socket(chromium, subscribe(base, channel, after="latest"))
    socket.messages(1)
    texts = [bytes([letter]) * 1_000_000 for letter in b"abc"] + [base64.b64encode(os.urandom(700_000)) for _ in range(2)]
    post_all(server, channel, texts, "text/plain")
    eventually(lambda: chromium.run("name => window.followed[name].got.length", socket.name) == 6, "all are there", 20)
    assert [message["data"].encode() for message in socket.objects(6)[1:]] == texts


# The end

REASONS = {
    "1000": (1000,),
    "1000 and a reason": (1000, "reason"),
    "3000": (3000, "done"),
    "4999": (4999, "x" * 123),
    "123 bytes of two each": (3999, "\xe9" * 61 + "x"),
    "123 bytes of three each": (4000, "\u20ac" * 41),
    "123 bytes of four each": (4001, "\U0001f413" * 30 + "abc"),
    "a null character": (3001, "a\0b"),
}


def test_a_close_of_the_page_is_clean_and_has_its_own_code_back(server, chromium, base, channel):
    """websockets/Close-1000, -1000-reason, -3000-reason, -4999-reason, -Reason-124Bytes, -clean-close."""
    before = metric(server, "tocsin_connections")
    for name, arguments in REASONS.items():
        socket = Socket(chromium, subscribe(base, channel))
        socket.messages(1)
        assert socket.state()["ready"] == 1
        socket.close(*arguments)
        closed = socket.closed()
        assert closed["clean"] and closed["code"] == arguments[0], (name, closed)
        assert closed["reason"] in ("", *arguments[1:]) and socket.state()["errors"] == 0 and socket.state()["ready"] == 3, name
    eventually(lambda: metric(server, "tocsin_connections") <= before, "the connections are gone, or go on without them")


def test_a_close_of_the_page_without_a_code_is_answered_without_one(chromium, base, channel):
    """websockets/Close-1005, Close-undefined: what the page is shown is the code of the close that it gets."""
    socket = Socket(chromium, subscribe(base, channel))
    socket.messages(1)
    socket.close()
    assert socket.closed() == {"code": 1005, "reason": "", "clean": True}


CLOSES = {
    1000: b"", 1001: b"", 1007: b"x", 1011: b"", 3000: "\xe9".encode() * 61, 4999: "\u20ac".encode() * 41, 1012: b"y" * 123,
}


@pytest.mark.parametrize("code", CLOSES)
def test_the_bytes_of_a_close_are_answered_with_its_code_and_the_end(server, code):
    """websockets/closing-handshake/*; RFC 6455 section 5.5.1."""
    with RawWebSocket(server.port) as raw:
        raw.send(8, struct.pack("!H", code) + CLOSES[code])
        assert raw.close_code() == code
        with pytest.raises((EOFError, ConnectionResetError)):
            raw.frame()


def test_the_bytes_of_a_close_without_a_code_are_answered_without_one(server):
    """websockets/Close-1005: a browser shows 1005 where the close that it gets has no code."""
    with RawWebSocket(server.port) as raw:
        raw.send(8)
        assert raw.close_code() == 1005


@pytest.mark.parametrize("payload, code", [
    (struct.pack("!H", number), 1002) for number in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
] + [(b"\x03\xe8\xff", 1007), (b"\x03\xe8\xed\xa0\x80", 1007), (b"\x03\xe8\xe2\x82", 1007), (b"\x03", 1002)], ids=repr)
def test_a_close_that_may_not_be_sent_is_a_fault(server, payload, code):
    """websockets/close-invalid; RFC 6455 sections 5.5.1 and 7.4."""
    with RawWebSocket(server.port) as raw:
        raw.send(8, payload)
        assert raw.close_code() == code


FAULTS = {
    "bytes": ("tocsin.v1", b"\x01\x02", 1003),
    "JSON as bytes": ("tocsin.v1", b"{}", 1003),
    "no JSON": ("tocsin.v1", "not JSON", 1007),
    "nothing": ("tocsin.v1", "", 1007),
    "too much": ("tocsin.v1", "[" + "1," * 40_000 + "1]", 1009),
    "text for CBOR": ("tocsin.v1.cbor", "{}", 1003),
    "no CBOR": ("tocsin.v1.cbor", b"\xff", 1007),
    "no bytes": ("tocsin.v1.cbor", b"", 1007),
    "too much CBOR": ("tocsin.v1.cbor", b"\xa1\x61x\x79\xff\xff" + b"y" * 65535, 1009),
}


def test_a_close_of_the_server_is_clean_and_says_why(chromium, base, channel):
    """websockets/Close-server-initiated-close."""
    for name, (protocol, message, code) in FAULTS.items():
        socket = Socket(chromium, subscribe(base, channel), [protocol])
        socket.messages(1)
        (socket.send_bytes if isinstance(message, bytes) else socket.send)(message)
        closed = socket.closed()
        assert closed["code"] == code and closed["clean"] and closed["reason"], (name, closed)
        assert socket.state()["errors"] == 0, name


def test_a_page_that_goes_takes_its_websockets_with_it(server, chromium, base, channel):
    """websockets/unload-a-document: neither a close frame nor the end of an HTTP/2 connection need come."""
    before = metric(server, 'tocsin_subscribers{transport="websocket"}')
    for _ in range(4):
        Socket(chromium, subscribe(base, channel)).messages(1)
    assert metric(server, 'tocsin_subscribers{transport="websocket"}') == before + 4
    chromium.open("about:blank")
    eventually(lambda: metric(server, 'tocsin_subscribers{transport="websocket"}') == before, "all are gone")


def test_an_idle_websocket_is_kept_open_by_pings_that_the_browser_answers(server, chromium, base, channel):
    """websockets/keeping-connection-open."""
    socket = Socket(chromium, subscribe(base, channel, after="latest"))
    source = Source(chromium, subscribe(base, channel, after="latest"))
    socket.messages(1)
    source.begun()
    for number in range(2):
        pongs = metric(server, "tocsin_websocket_round_trip_seconds_count")
        eventually(lambda: metric(server, "tocsin_websocket_round_trip_seconds_count") > pongs, "a ping is answered")
        publish(server, channel, number)
        assert json.loads(source.events(number + 1)[number]["data"])["data"] == number
        assert socket.objects(number + 2)[-1]["data"] == number
    assert socket.state()["closed"] is None


def test_notifications_go_on_after_commands_and_their_replies(server, chromium, base, channel):
    """websockets/Send-data, with what this server answers: replies and notifications take turns."""
    socket = Socket(chromium, subscribe(base, channel, after="latest"))
    socket.messages(1)
    seen = []
    for number in range(0, 10, 2):
        socket.send(json.dumps({"id": number, "type": "ping"}))
        assert socket.objects(len(seen) + 2)[-1] == {"type": "reply", "id": number}
        publish(server, channel, number)
        seen += [number, number]
        assert socket.objects(len(seen) + 1)[-1]["data"] == number
        socket.send(json.dumps({"id": "own", "type": "publish", "channel": channel, "data": number + 1}))
        seen += ["own", number + 1]
        kinds = sorted(message["type"] for message in socket.objects(len(seen) + 1)[-2:])
        assert kinds == ["notification", "reply"]


def test_a_websocket_that_nobody_answers_is_a_failure_without_a_status(server, chromium, base, channel):
    """websockets/opening-handshake: 4xx end in an error and 1006, and a page is told nothing more."""
    for path in ("/v1/subscribe?channel=a..b", "/nowhere", "/v1/publish"):
        socket = Socket(chromium, f"{base}{path}")
        assert socket.closed() == {"code": 1006, "reason": "", "clean": False}
        assert socket.state()["errors"] == 1
