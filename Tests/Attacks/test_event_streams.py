"""Attacks on Server-Sent Events: what a publisher may inject, what a browser may be made to believe, positions that are none."""

import contextlib
import json
import urllib.parse

import httpx
import httpx_sse
import pytest

from support import connect, event_stream, http, publish, publish_many, query
from websocket_wire import first_answer

LINE_ENDS = {"CR": "\r", "LF": "\n", "CRLF": "\r\n", "NUL": "\0"}
INJECTED = "event: gap\ndata: {}\n\n"


@contextlib.contextmanager
def reading(server, path, **headers):
    """Events of a stream, by a reader that others wrote."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        with httpx_sse.connect_sse(client, "GET", server.url + path, headers=headers) as source:
            assert source.response.status_code == 200, source.response.read()
            yield source.iter_sse()


# Injection: what a publisher says must not end a line of the stream.

@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("field", ["event", "key", "replaces"])
def test_a_field_that_would_end_its_line_is_refused(server, channel, field, end):
    value = f"a{LINE_ENDS[end]}{INJECTED}"
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}", params={field: value}, content="1")
        assert answer.status_code == 400, answer.text
        answer = client.post(f"{server.url}/v1/publish", json=[{"channel": channel, "data": 1, field: value}])
        assert answer.status_code == 400, answer.text
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404, "something was published"


@pytest.mark.parametrize("end", LINE_ENDS)
def test_the_type_of_a_cloudevent_that_would_end_its_line_is_refused_or_names_no_event(server, channel, end):
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": f"a{LINE_ENDS[end]}{INJECTED}", "data": 1}
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}", json=event, headers={"Content-Type": "application/cloudevents+json"})
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        with reading(server, f"/v1/subscribe?{query(channel, after='earliest', format='raw')}") as events:
            assert next(events).event == "hello"
            got = next(events)
            assert got.event == "message" and json.loads(got.data) == event, got


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\rb", "a\0b", "a..b", ".a", "a*", "é", "a" * 300, "_own.a", "a/../b"])
def test_a_channel_that_is_none_is_refused(server, name):
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{urllib.parse.quote(name, safe='')}", content="1")
        assert answer.status_code in (400, 403), answer.text
        answer = client.post(f"{server.url}/v1/publish", json=[{"channel": name, "data": 1}])
        assert answer.status_code == 400, answer.text


PAYLOADS = ["a\rb", "a\nb", "a\r\nb", "\r", "\n", "\r\n\r\n", INJECTED, "data: x\r\ndata: y\r\rid: 7\n\nretry: 1\n",
            "a\u2028b\u2029c\u0085d", "", " leading", ": comment", "\ufeffbom", "\x0b\x0c", "a\0b",
            "é\U0001f600", "\r" * 1000, "]]></script>"]


@pytest.mark.parametrize("event_form", ["object", "raw"])
def test_whatever_a_payload_holds_one_message_is_one_event(server, channel, event_form):
    """A reader that others wrote gets as many events as were published, and what was in them."""
    with http() as client:
        for number, payload in enumerate(PAYLOADS):
            answer = client.post(f"{server.url}/v1/channels/{channel}", content=payload.encode(), params={"event": f"e{number}"},
                                 headers={"Content-Type": "text/plain"})
            assert answer.status_code == 201, answer.text
    items = query(channel, after="earliest", format="raw" if event_form == "raw" else None)
    with reading(server, f"/v1/subscribe?{items}") as events:
        assert next(events).event == "hello"
        for number, payload in enumerate(PAYLOADS):
            event = next(events)
            if event_form == "raw":
                assert event.event == f"e{number}", f"{payload!r}: event {event.event!r}, data {event.data!r}"
                got = json.loads(event.data) if event.data[:1] == '"' else event.data
                assert got == payload or got.split("\n") == payload.replace("\r\n", "\n").replace("\r", "\n").split("\n"), repr(event.data)
            else:
                assert event.event == "message" and json.loads(event.data)["data"] == payload, f"{payload!r}: {event.data!r}"
            assert event.id and not set(event.id) & set("\r\n\0")
            assert event.retry is None


# What a browser may be made to believe.

PATHS = ["/v1/subscribe?channel=attacked.headers", "/v1/subscribe?channel=attacked.headers&callback=alert", "/v1/channels/attacked.headers",
         "/v1/channels/attacked.headers/history?after=0", "/v1/channels/attacked.none", "/v1/nothing", "/v1/subscribe?channel=<script>",
         "/v1/subscribe?<script>=1", "/<script>alert(1)</script>", "/healthz", "/metrics", "/v1/inbox?user=a&channel=alerts.a"]


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_can_be_taken_for_a_script_or_a_page(server, path):
    publish(server, "attacked.headers", "<script>alert(1)</script>")
    with http() as client:
        answer = client.get(server.url + urllib.parse.quote(path, safe="/?=&"))
    assert "html" not in answer.headers["content-type"] and "javascript" not in answer.headers["content-type"]
    assert not answer.text.lstrip().startswith(("alert(", "callback")), "a JSONP answer"
    assert answer.headers.get("x-content-type-options") == "nosniff", "a browser may guess another type"


def test_a_stream_says_what_it_is_and_is_not_to_be_kept_or_held_back(server, channel):
    with event_stream(server.port, f"/v1/subscribe?{query(channel)}&callback=alert") as raw:
        assert b" 400 " in raw.recv(65536).split(b"\r\n")[0], "a parameter that is not known is let pass"
    answer = first_answer(server.port, (f"GET /v1/subscribe?{query(channel)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                                        "Accept: text/event-stream\r\n\r\n").encode())
    assert answer.headers["content-type"].replace(" ", "").lower() == "text/event-stream;charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert set(answer.headers["cache-control"].replace(" ", "").split(",")) & {"no-cache", "no-store"}
    assert answer.headers["x-accel-buffering"] == "no"
    assert "access-control-allow-origin" not in answer.headers


def test_heartbeats_come_as_comments(server, channel):
    with event_stream(server.port, f"/v1/subscribe?{query(channel, heartbeat=1)}") as raw:
        data = b""
        while b"\n:" not in data:
            piece = raw.recv(65536)
            assert piece
            data += piece


# CORS with credentials.

@pytest.mark.parametrize("allowed", ["https://page.example", "*"])
@pytest.mark.parametrize("way", ["sse", "long-poll", "publish", "preflight"])
def test_an_allowed_origin_is_named_exactly_and_credentials_never_go_with_all(start_server, allowed, way):
    server = start_server("--allow-origin", allowed)
    origin = "https://page.example"
    headers = {"Origin": origin, **({"Accept": "text/event-stream"} if way == "sse" else {})}
    url = f"{server.url}/v1/subscribe?channel=attacked.cors"
    with http() as client:
        if way == "publish":
            answer = client.post(f"{server.url}/v1/channels/attacked.cors", content="1", headers=headers)
        elif way == "preflight":
            answer = client.options(url, headers={**headers, "Access-Control-Request-Method": "GET"})
        elif way == "sse":
            with client.stream("GET", url, headers=headers) as answer:
                pass
        else:
            answer = client.get(url, headers=headers)
        assert answer.status_code < 300
        echoed = answer.headers["access-control-allow-origin"]
        if allowed == "*":
            assert echoed in ("*", origin)
            assert "access-control-allow-credentials" not in answer.headers, "every page may use the visitor's credentials"
        else:
            assert echoed == origin
        if echoed != "*":
            assert "origin" in answer.headers.get("vary", "").lower(), "a cache may hand it to another origin"
        if allowed != "*":
            other = client.get(url, headers={"Origin": "https://page.example.evil.example"})
            assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


# Positions that are none.

def positions(server, channel):
    own = publish(server, channel, 1)["position"]
    epoch, _, number = own.partition(".")
    return {
        "another life": f"{'0' * len(epoch)}.1", "another life, far": f"{'f' * len(epoch)}.18446744073709551615",
        "ahead of the log": f"{epoch}.999999999999", "2^63": f"{epoch}.9223372036854775808", "2^64": f"{epoch}.18446744073709551616",
        "over 64 bits": f"{epoch}.{'9' * 100}", "negative": f"{epoch}.-1", "no number": f"{epoch}.", "letters": f"{epoch}.x",
        "no epoch": f".{number}", "zeros before": f"{epoch}.{'0' * 50}1", "a dot more": f"{own}.1", "dots": "." * 200,
        "hash": "#", "star": "*", "a path": "../../etc/passwd", "quotes": "' OR 1=1 --", "8 KB": "a" * 8000,
        "8 KB of digits": f"{epoch}.{'1' * 8000}", "not ASCII": "é\u2028".encode(), "not UTF-8": b"\xff\xfe", "a tab": "a\tb",
        "own with space": f"{own} x", "another of this log": own, "windows": f"{own}:1:1",
        "long windows": f"{epoch}.{number}" + "~1" * 500, "minus": "-", "null": "null", "percent": "%00",
    }


REFUSED = ("negative", "no number", "letters", "no epoch", "dots", "8 KB", "over 64 bits", "2^64", "quotes", "not ASCII", "not UTF-8")


@pytest.mark.parametrize("way", ["sse", "long-poll"])
def test_a_position_that_is_none_is_refused_or_told_as_a_gap(server, channel, way):
    for name, value in positions(server, channel).items():
        value = value if isinstance(value, bytes) else value.encode()
        fields = b"Last-Event-ID: " + value + b"\r\n" + (b"Accept: text/event-stream\r\n" if way == "sse" else b"Prefer: wait=0\r\n")
        data = f"GET /v1/subscribe?{query(channel)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode() + fields + b"\r\n"
        answer = first_answer(server.port, data)
        assert answer is not None, f"{name}: closed without an answer"
        assert answer.status_code in (200, 400, 431), f"{name}: {answer.status_code} {answer.text}"
        if name.startswith("another life"):
            assert answer.status_code == 200, f"{name}: {answer.text}"
        elif name == "another of this log":
            assert answer.status_code == 200
        elif name in REFUSED:
            assert answer.status_code == 400, f"{name}: {answer.status_code}"
    with http() as client:
        for name, value in positions(server, channel).items():
            answer = client.get(f"{server.url}/v1/subscribe?channel={channel}&wait=0&after={urllib.parse.quote(value)}")
            assert answer.status_code in (200, 400, 414), f"{name}: {answer.status_code}"


def test_coming_back_from_the_beginning_again_and_again_costs_the_others_nothing(server, besiege, channel):
    """Replay is bounded: the same old position on each connection, and gone as soon as the answer begins."""
    publish_many(server, [(channel, "x" * 1000)] * 1000)
    foreign = "0" * 12 + ".1"

    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            start = [f"after={foreign}", "after=earliest"][count % 2]
            with event_stream(server.port, f"/v1/subscribe?{query(channel)}&{start}", receive_buffer=4096) as raw:
                assert raw.recv(15).startswith(b"HTTP/1.1 200"), start
            count += 1
        return f"{count} replays begun"

    besiege(server, attack, name="replays from the beginning", growth_mib=24)


def test_event_streams_that_do_not_read_cost_little(server, besiege, channel):
    clients = 40
    publish_many(server, [(channel, "x" * 100_000)] * 100)

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for number in range(clients):
                start = "earliest" if number % 2 else "latest"
                stack.enter_context(event_stream(server.port, f"/v1/subscribe?{query(channel, after=start)}", receive_buffer=4096))
            publish(server, channel, "x" * 100_000)
            deadline.wait()
        return f"{clients} clients did not read 10 MB"

    besiege(server, attack, name="event streams not read", growth_mib=24)


def test_streams_with_the_largest_padding_and_the_shortest_heartbeat_are_bounded(server, besiege, channel):
    """64 KiB a second for each client that asks for it, and does not read it."""
    clients = 50

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for _ in range(clients):
                path = f"/v1/subscribe?{query(channel, heartbeat=1, pad=65536)}"
                stack.enter_context(event_stream(server.port, path, receive_buffer=4096))
            deadline.wait()
        return f"{clients} padded streams"

    besiege(server, attack, name="padded heartbeats not read", growth_mib=16, seconds_min=1.2)


def test_a_head_that_goes_on_while_the_stream_runs_is_survived(server, channel):
    """What a client sends behind its request for a stream is not a request."""
    with connect(server.port) as raw:
        raw.sendall(f"GET /v1/subscribe?{query(channel)} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(b"POST /v1/channels/%s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1" % channel.encode() * 100)
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404
