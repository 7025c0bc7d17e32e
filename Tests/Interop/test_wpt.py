"""What the Web Platform Tests of EventSource and WebSocket ask of a server, in Chromium over HTTP/1.1 and HTTP/2, and byte by byte.

Each test says in its first line which of their cases it stands for; `eventsource/` and `websockets/` are folders of that suite.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import struct
import uuid

import pytest
import websockets.exceptions
import websockets.sync.client

from browsers import Chromium, Line, Pages, Socket, Source
from support import (Promise, RawHTTP2, RawWebSocket, Server, assert_problem, connect, eventually, exchange, http, publish, query,
                     trusting_context)

pytestmark = pytest.mark.timeout(100)
EVENT_STREAM = re.compile(r"text/event-stream(; ?charset=utf-8)?")
POSITION = re.compile(r"[0-9a-f]{12}\.[0-9n][0-9.n-]*")


@pytest.fixture(scope="module")
def allowed():
    """Pages of an origin that the server is told to serve."""
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def stranger():
    """Pages of an origin that it is not told of."""
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def started(certificate, allowed):
    server = Server(certificate, arguments=["--conformance", "--allow-origin", allowed.url])
    yield server
    assert server.stop() == 0, "".join(server.output[-40:])


@pytest.fixture
def server(started):
    yield started
    assert started.alive, "".join(started.output[-40:])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium") / "profile")
    yield browser
    browser.close()


@pytest.fixture(params=["http1", "http2"])
def base(request, server, chromium):
    """Chromium has a page of the server open, over HTTP/1.1 or over HTTP/2; this is its origin."""
    url = server.url if request.param == "http1" else server.tls_url
    chromium.open(f"{url}/healthz")
    protocol = chromium.run("() => performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert protocol == {"http1": "http/1.1", "http2": "h2"}[request.param]
    yield url
    answers = [event["response"]["status"] for event in chromium.told("Network.webSocketHandshakeResponseReceived")]
    wanted = {"http1": 101, "http2": 200}[request.param]
    assert all(status in (wanted, 403) for status in answers), answers
    chromium.open("about:blank")


@pytest.fixture
def channel():
    """A plain channel that no other test uses."""
    return f"wpt.{uuid.uuid4().hex[:12]}"


def metric(server, name):
    with http() as client:
        return int(re.search(rf"^{re.escape(name)} (\d+)$", client.get(f"{server.url}/metrics").text, re.MULTILINE)[1])


def subscribe(base, channel, **items):
    return f"{base}/v1/subscribe?{query(channel, **items)}"


def post(server, channel, content, kind="text/plain", headers=(), **items):
    with http() as client:
        return client.post(f"{server.url}/v1/channels/{channel}", params=items, content=content,
                           headers={"Content-Type": kind, **dict(headers)})


def post_all(server, channel, contents, kind):
    with http() as client:
        for content in contents:
            answer = client.post(f"{server.url}/v1/channels/{channel}", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 201, answer.text


def bytes_of_stream(server, path, events, headers=""):
    """What an event stream sends to a client of HTTP/1.0, so without chunks: the head, and the body with so many events."""
    with connect(server.port) as raw:
        raw.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n".encode())
        data = b""
        while data.partition(b"\r\n\r\n")[2].count(b"\n\n") < events:
            piece = raw.recv(65536)
            assert piece, data[:2000]
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), body


# eventsource/: the format

TEXTS = {
    "nothing": "",
    "a line feed": "\n",
    "a carriage return": "\r",
    "both": "\r\n",
    "both, the other way round": "\n\r",
    "lines ended in three ways": "a\nb\rc\r\nd",
    "empty lines within": "a\n\nb\r\n\r\nc\r\rd",
    "a line feed first": "\na",
    "a line feed last": "a\n",
    "empty lines last": "a\n\n\n",
    "a null character": "a\0b",
    "only null characters": "\0\0",
    "a byte order mark first": "\ufeffa",
    "only a byte order mark": "\ufeff",
    "two byte order marks": "\ufeff\ufeffa\ufeff",
    "a lone colon": ":",
    "lines of lone colons": ":\n:\n:",
    "comments": ": a comment\n:another",
    "a leading space": " a",
    "two leading spaces": "  a",
    "a leading tab": "\ta",
    "only a space": " ",
    "a trailing space": "a ",
    "fields": "data: x\nid: 1\nevent: y\nretry: 1",
    "an event in an event": "a\n\nid: \0\nevent: open\nretry: 0\ndata: forged\n\n",
    "the end of an event": "\n\n",
    "a field without a colon": "data\ndata\n",
    "the end of a chunk": "\r\n0\r\n\r\n",
    "line ends that are none here": "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "all controls": "".join(map(chr, [*range(32), 127, *range(128, 160)])),
    "characters that are none": "\ufffe\uffff\ufdd0\U0001ffff\U0010ffff",
    "characters beyond the first plane": "\U0001f413\U00010000",
    "a combining character": "e\u0301 \xe9",
    "the replacement character": "\ufffd",
    "what JSON escapes": "\"\\/\b\f\t",
    "what HTML escapes": "</script><!--&amp;",
    "an object of the protocol": '{"type":"hello"}',
    "many empty lines": "\n" * 5000,
    "a long line": "x" * 300_000,
    "a long line of three bytes each": "\u20ac" * 100_000,
}


@pytest.mark.parametrize("form", ["object", "raw"])
def test_texts_arrive_in_an_event_source_as_they_were_published(server, chromium, base, channel, form):
    """eventsource/format-newlines, format-null-character, format-leading-space, format-bom, format-comments, event-data."""
    post_all(server, channel, [text.encode() for text in TEXTS.values()], "text/plain; charset=utf-8")
    source = Source(chromium, subscribe(base, channel, after="earliest", format="raw" if form == "raw" else None))
    events = source.events(len(TEXTS))
    assert len(events) == len(TEXTS)
    for (name, text), event in zip(TEXTS.items(), events):
        value = json.loads(event["data"])
        assert (value if form == "raw" else value["data"]) == text, name
        assert POSITION.fullmatch(event["id"]) and event["origin"] == base
        assert form == "raw" or event["id"] == value["position"]
    assert source.state()["errors"] == 0


JSON_TEXTS = {
    '"a"': '"a"',
    '{"a":\r\n1,\r\t"b" :\n2}\r\n': '{"a":1,"b":2}',
    '[1, 2.50, -0, 1E400, 123456789012345678901234567890, 1e-7]': '[1,2.50,-0,1E400,123456789012345678901234567890,1e-7]',
    r'"\u000a\u000d\u0000\u2028\ud83d\udc13\/"': r'"\u000a\u000d\u0000\u2028\ud83d\udc13\/"',
    '"\u2028\u2029\x7f\ufeff"': '"\u2028\u2029\x7f\ufeff"',
    '{"b": 1, "a": 2, "b": 3}': '{"b":1,"a":2,"b":3}',
    '{": data": ":", "\\n\\nevent": " x "}': '{": data":":","\\n\\nevent":" x "}',
    " null ": "null",
}


@pytest.mark.parametrize("form", ["object", "raw"])
def test_json_arrives_byte_for_byte_without_the_blanks_between_its_tokens(server, chromium, base, channel, form):
    """eventsource/format-field-data."""
    post_all(server, channel, [text.encode() for text in JSON_TEXTS], "application/json")
    source = Source(chromium, subscribe(base, channel, after="earliest", format="raw" if form == "raw" else None))
    for event, expected in zip(source.events(len(JSON_TEXTS)), JSON_TEXTS.values()):
        assert event["data"] == expected if form == "raw" else event["data"].endswith(f'"data":{expected}}}')


ALL_OF_UNICODE = """(name, isRaw) => window.followed[name].got.map((event, index) => {
    const value = JSON.parse(event.data), text = isRaw ? value : value.data
    let at = 0
    for (let code = index * 0x30000; code < Math.min((index + 1) * 0x30000, 0x110000); code += 1) {
        if (code >= 0xd800 && code < 0xe000) continue
        if (text.codePointAt(at) !== code) return `U+${code.toString(16)} is ${text.codePointAt(at)?.toString(16)}`
        at += code > 0xffff ? 2 : 1
    }
    return at === text.length ? "right" : "longer"
})"""


@pytest.mark.parametrize("form", ["object", "raw"])
def test_every_character_of_unicode_arrives(server, chromium, base, channel, form):
    """eventsource/format-utf-8, format-null-character."""
    planes = [range(start, min(start + 0x30000, 0x110000)) for start in range(0, 0x110000, 0x30000)]
    texts = ["".join(chr(code) for code in plane if not 0xD800 <= code < 0xE000) for plane in planes]
    post_all(server, channel, [text.encode() for text in texts], "text/plain")
    source = Source(chromium, subscribe(base, channel, after="earliest", format="raw" if form == "raw" else None))
    eventually(lambda: chromium.run("name => window.followed[name].got.length", source.name) == len(texts), "all planes are there", 20)
    assert chromium.run(ALL_OF_UNICODE, source.name, form == "raw") == ["right"] * len(texts)


@pytest.mark.parametrize("form", ["object", "raw"])
def test_a_line_of_a_mebibyte_arrives(server, chromium, base, channel, form):
    """eventsource/format-field-data: one line, as long as a payload may be."""
    longest = (1 << 20) - 2
    post_all(server, channel, [b"y" * longest], "text/plain")
    post_all(server, channel, [json.dumps("z" * longest).encode()], "application/json")
    source = Source(chromium, subscribe(base, channel, after="earliest", format="raw" if form == "raw" else None))
    lengths = "(name, raw) => window.followed[name].got.map(each => raw ? JSON.parse(each.data).length : JSON.parse(each.data).data.length)"
    eventually(lambda: chromium.run(lengths, source.name, form == "raw") == [longest, longest], "both lines are there", 20)


EVENT_NAMES = [
    "goal", "message", "open", "error", "id", "data", "retry", "event", ":", ": comment", "a:b", " ", " leading", "  two", "trailing ",
    "\xe9t\xe9", "\U0001f413", "\ufeffmarked", "\u2028", "\x85", "\ufffe", "__proto__", "constructor", "MESSAGE", "a" * 255, "\u20ac" * 85,
]


def test_the_name_of_an_event_arrives_as_it_was_published(server, chromium, base, channel):
    """eventsource/format-field-event, and names that look like something else."""
    for index, name in enumerate(EVENT_NAMES):
        assert post(server, channel, str(index), "application/json", event=name).status_code == 201, name
    assert post(server, channel, "99", "application/json").status_code == 201
    source = Source(chromium, subscribe(base, channel, after="earliest", format="raw"), EVENT_NAMES)
    events = source.events(len(EVENT_NAMES) + 1)
    expected = [(name, str(index)) for index, name in enumerate(EVENT_NAMES)] + [("message", "99")]
    assert [(event["type"], event["data"]) for event in events] == expected
    assert source.state()["opened"] == 1 and source.state()["errors"] == 0
    plain = Source(chromium, subscribe(base, channel, after="earliest"))
    objects = [json.loads(event["data"]) for event in plain.events(len(EVENT_NAMES) + 1)]
    assert [one.get("event") for one in objects] == [*EVENT_NAMES, None]


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0", "\x1b", "\x7f"], ids=ascii)
def test_a_name_that_would_end_its_line_is_refused_by_every_way_to_publish(server, channel, character):
    """eventsource/format-field-event, format-field-id-null: what would forge a field never gets into the log."""
    name = f"a{character}data: forged{character}{character}"
    for item in ("event", "key", "replaces"):
        assert_problem(post(server, channel, "1", **{item: name}), 400, "bad-parameter")
    batch = json.dumps([{"channel": channel, "data": 1, "event": name}])
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", content=batch, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.json()["results"][0]["error"]["status"] == 400, answer.text
    with RawWebSocket(server.port) as raw:
        raw.send(1, json.dumps({"id": 1, "type": "publish", "channel": channel, "data": 1, "event": name}))
        assert raw.texts(2)[1]["error"]["code"] == "bad_data"
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_cloudevent_whose_type_cannot_be_the_name_of_an_event_is_refused(server, channel, mode):
    """eventsource/format-field-event: CloudEvents 1.0 allows no control characters in a type, and an event has a name of 255 bytes."""
    for name in ("a\ndata: forged\n\n", "a\rb", "a\0", "a" * 256):
        if mode == "structured":
            event = {"specversion": "1.0", "id": "1", "source": "/s", "type": name, "data": 1}
            answer = post(server, channel, json.dumps(event), "application/cloudevents+json")
        else:
            encoded = "".join(f"%{byte:02X}" for byte in name.encode())
            fields = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": encoded}
            answer = post(server, channel, "1", "application/json", fields)
        assert_problem(answer, 400, "bad-cloudevent")


@pytest.mark.parametrize("form", [None, "raw"], ids=["object", "raw"])
def test_the_bytes_of_a_stream_are_fields_and_comments_and_nothing_else(server, channel, form):
    """eventsource/format-bom-2, format-field-parsing, format-field-retry, format-mime-*, format-field-id."""
    post_all(server, channel, [text.encode() for text in list(TEXTS.values())[:34]], "text/plain")
    head, body = bytes_of_stream(server, f"/v1/subscribe?{query(channel, after='earliest', format=form)}", 35)
    assert head[0].startswith("HTTP/1.1 200")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:])]
    kinds = [value for name, value in fields if name == "content-type"]
    assert len(kinds) == 1 and EVENT_STREAM.fullmatch(kinds[0]), kinds
    assert ("cache-control", "no-store") in fields and ("x-accel-buffering", "no") in fields
    assert not body.startswith(b"\xef\xbb\xbf") and b"\r" not in body and b"\0" not in body
    hello, *events = [block for block in body.decode().split("\n\n") if block not in ("", ":")][:35]
    assert hello.split("\n")[0] == "retry: 2000"
    assert re.fullmatch(r"retry: \d+\nid: (\S+)\nevent: hello\ndata: {.*}", hello)
    for event in events:
        assert re.fullmatch(r"id: [0-9a-f]{12}\.\d+\ndata: [^\n]+", event), event[:200]


# eventsource/: to come back

LAST_IDS = {
    "": 200,
    "0": 400,
    "x": 400,
    "\xe9": 400,
    "\u20ac".encode().decode("latin-1"): 400,
    "000000000000.0": 200,
    "000000000000.0\0": 400,
    "9" * 5000: 400,
    "latest": 200,
}


@pytest.mark.parametrize("name", LAST_IDS, ids=lambda name: ascii(name[:20]))
def test_a_last_event_id_that_the_server_did_not_give_is_refused_or_no_position_at_all(server, channel, name):
    """eventsource/format-field-id-3, format-field-id-null: an empty one is none; what no server gave ends in no stream."""
    head = f"GET /v1/subscribe?{query(channel)} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nLast-Event-ID: {name}\r\n"
    with connect(server.port) as raw:
        raw.sendall((head + "\r\n").encode("latin-1"))
        answer = raw.recv(4096).decode("latin-1")
    assert answer.startswith(f"HTTP/1.1 {LAST_IDS[name]} "), answer
    if LAST_IDS[name] != 200:
        assert "application/problem+json" in answer


@pytest.mark.parametrize("place", ["http1", "http2", "other-origin"])
def test_an_event_source_that_was_cut_off_comes_back_where_it_was(server, chromium, allowed, channel, place):
    """eventsource/eventsource-reconnect, format-field-id, last-event-id, request-cache-control, request-accept."""
    line = Line(server.tls_port if place == "http2" else server.port)
    try:
        base = f"{'https' if place == 'http2' else 'http'}://127.0.0.1:{line.port}"
        chromium.open(f"{allowed.url}/" if place == "other-origin" else f"{base}/healthz")
        quiet = Source(chromium, subscribe(base, f"{channel}.quiet", after="latest"))
        busy = Source(chromium, subscribe(base, channel, after="latest"))
        raw = Source(chromium, subscribe(base, channel, after="latest", format="raw"), ["message", "goal"])
        sources = (quiet, busy, raw)
        begun = [source.begun()["position"] for source in sources]
        for number in range(3):
            publish(server, channel, number, event="goal")
        before = [busy.events(3), raw.events(3)]
        line.cut()
        publish(server, f"{channel}.quiet", "while away")
        for number in range(3, 6):
            publish(server, channel, number, event="goal")
        for source in sources:
            source.until(lambda state: len(state["control"]) >= 2, "is back")
        for number in range(6, 9):
            publish(server, channel, number, event="goal")
        promise = Promise()
        for event in busy.events(9):
            message = json.loads(event["data"])
            promise.see(message)
            assert message["data"] == promise.count - 1 and event["id"] == message["position"]
        assert promise.count == 9
        assert [(event["type"], event["data"]) for event in raw.events(9)] == [("goal", str(number)) for number in range(9)]
        assert [event["id"] for event in raw.events(9)] == [event["id"] for event in busy.events(9)]
        assert [json.loads(event["data"])["data"] for event in quiet.events(1)] == ["while away"]
        for source in sources:
            state = source.state()
            assert state["opened"] == 2 and state["errors"] == 1 and state["ready"] == 1
        if place != "http2":
            last = [begun[0], before[0][-1]["id"], before[1][-1]["id"]]
            wanted = [f"{channel}.quiet&after=latest", f"{channel}&after=latest", f"{channel}&after=latest&format=raw"]
            for items, position in zip(wanted, last):
                first, second = line.heads(f"/v1/subscribe?channel={items}")
                assert "last-event-id" not in first and second["last-event-id"] == position
                assert first["accept"] == "text/event-stream" and first["cache-control"] == "no-cache"
    finally:
        chromium.open("about:blank")
        line.close()


@pytest.mark.parametrize("path, status", [
    ("/v1/subscribe", 400), ("/v1/subscribe?channel=a..b", 400), ("/v1/subscribe?channel=a&after=nowhere", 400),
    ("/v1/subscribe?channel=a&format=other", 400), ("/v1/subscribe?channel=_own.a", 400), ("/v1/nowhere", 404), ("/v1/publish", 405),
    ("/healthz", 200), ("/metrics", 200), ("/echo", 426),
])
def test_an_answer_that_is_no_stream_ends_an_event_source_for_good(server, chromium, base, path, status):
    """eventsource/request-status-error, format-mime-bogus: CLOSED after one error, and not opened again."""
    with http() as client:
        answer = client.get(f"{server.url}{path}", headers={"Accept": "text/event-stream"})
    assert answer.status_code == status and not answer.headers["content-type"].startswith("text/event-stream")
    source = Source(chromium, f"{base}{path}")
    state = source.until(lambda state: state["errors"], "has failed")
    assert (state["ready"], state["opened"], state["errors"], state["got"], state["control"]) == (2, 0, 1, [], [])


@pytest.mark.parametrize("accept", ["text/event-stream", "TEXT/Event-Stream", "text/event-stream, */*;q=0.1", "*/*, text/event-stream;q=0.5"])
def test_who_accepts_a_stream_gets_it_with_its_exact_content_type(server, channel, accept):
    """eventsource/request-accept, format-mime-valid-bogus."""
    with http() as client, client.stream("GET", subscribe(server.url, channel), headers={"Accept": accept}) as answer:
        assert answer.status_code == 200
        kinds = answer.headers.get_list("content-type")
        assert len(kinds) == 1 and EVENT_STREAM.fullmatch(kinds[0]), kinds


def test_a_source_that_is_closed_is_gone_from_the_server(server, chromium, base, channel):
    """eventsource/eventsource-close, eventsource-request-cancellation."""
    before = metric(server, 'tocsin_subscribers{transport="sse"}')
    sources = [Source(chromium, subscribe(base, channel)) for _ in range(4)]
    for source in sources:
        source.begun()
    assert metric(server, 'tocsin_subscribers{transport="sse"}') == before + 4
    for source in sources[:2]:
        source.close()
    eventually(lambda: metric(server, 'tocsin_subscribers{transport="sse"}') == before + 2, "two are gone")
    chromium.open("about:blank")
    eventually(lambda: metric(server, 'tocsin_subscribers{transport="sse"}') == before, "all are gone")


@pytest.mark.parametrize("carrier", ["http1", "http2"])
def test_a_restart_is_told_and_a_page_goes_on_with_what_it_missed(start_server, chromium, channel, tmp_path, carrier):
    """websockets/Close-server-initiated-close, eventsource/eventsource-reconnect: going-away, 1012, and a new process."""
    options = {"arguments": ["--store", str(tmp_path / "log.sqlite"), "--drain", "1"]}
    server = start_server(**options)
    line = Line(server.tls_port if carrier == "http2" else server.port)
    try:
        base = f"{'https' if carrier == 'http2' else 'http'}://127.0.0.1:{line.port}"
        chromium.open(f"{base}/healthz")
        source = Source(chromium, subscribe(base, channel, after="latest"))
        socket = Socket(chromium, subscribe(base, channel, after="latest"))
        source.begun()
        socket.messages(1)
        publish(server, channel, 0)
        source.events(1)
        socket.messages(2)
        assert server.stop() == 0
        assert socket.closed() == {"code": 1012, "reason": "the server restarts", "clean": True}
        last = json.loads(socket.state()["got"][-1])
        assert last["type"] == "going-away" and last["retry_after_ms"] > 0
        assert socket.state()["errors"] == 0
        state = source.until(lambda state: state["errors"], "has ended")
        assert [event["type"] for event in state["control"]] == ["hello", "going-away"] and state["ready"] == 0
        server = start_server(**options)
        publish(server, channel, 1)
        line.target = server.tls_port if carrier == "http2" else server.port
        events = source.events(2)
        assert [json.loads(event["data"])["data"] for event in events] == [0, 1]
        again = Socket(chromium, subscribe(base, channel, after=json.loads(events[0]["data"])["position"]))
        assert again.objects(2)[1]["data"] == 1
    finally:
        chromium.open("about:blank")
        line.close()


# eventsource/ and fetch: other origins

def test_a_page_of_an_allowed_origin_reads_streams_and_publishes(server, chromium, allowed, channel):
    """eventsource/eventsource-cross-origin, eventsource-cross-origin-preflight."""
    for base in (server.url, server.tls_url):
        chromium.open(f"{allowed.url}/")
        source = Source(chromium, subscribe(base, channel, after="latest"))
        source.begun()
        sent = chromium.run("""async (url, key) => {
            const answer = await fetch(url, {method: "POST", body: "[1]",
                headers: {"Content-Type": "application/json", "Idempotency-Key": key}})
            return [answer.status, await answer.json()]
        }""", f"{base}/v1/channels/{channel}", uuid.uuid4().hex)
        assert sent[0] == 201
        event = source.events(1)[0]
        assert event["origin"] == base and event["id"] == sent[1]["position"]
        publish(server, channel, "after it")
        text = chromium.run("""async (url, position) => {
            const answer = await fetch(url, {headers: {"Last-Event-ID": position, Accept: "text/event-stream", "Cache-Control": "no-cache"}})
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
            let text = ""
            while (!text.includes("after it")) text += (await reader.read()).value
            await reader.cancel()
            return text
        }""", subscribe(base, channel), sent[1]["position"])
        assert text.count("\nid: ") == 2 and "[1]" not in text
        polled = chromium.run("async (url) => (await (await fetch(url, {headers: {Prefer: 'wait=0'}})).json()).messages.length",
                              subscribe(base, channel, after="earliest"))
        assert polled == 2 * (1 + (base == server.tls_url))
        socket = Socket(chromium, subscribe(base, channel))
        assert socket.opened()["opened"] and socket.objects(1)[0]["type"] == "hello"


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(server, chromium, stranger, channel):
    """eventsource/eventsource-cross-origin: an origin that is not allowed; websockets/opening-handshake/003."""
    position = publish(server, channel, "secret")["position"]
    for base in (server.url, server.tls_url):
        chromium.open(f"{stranger.url}/")
        for source in (Source(chromium, subscribe(base, channel, after="earliest")),
                       Source(chromium, subscribe(base, channel, after="earliest"), credentials=True)):
            state = source.until(lambda state: state["errors"], "has failed")
            assert (state["ready"], state["opened"], state["control"], state["got"]) == (2, 0, [], [])
        for fields in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}, {"Idempotency-Key": "a"}, {}):
            outcome = chromium.run("(url, headers) => fetch(url, {method: 'POST', body: '1', headers}).then(a => a.status, () => 'failed')",
                                   f"{base}/v1/channels/{channel}", fields)
            assert outcome == "failed"
            chromium.run("url => fetch(url, {method: 'POST', body: '1', mode: 'no-cors'}).catch(() => 0).then(() => 0)",
                         f"{base}/v1/channels/{channel}")
        socket = Socket(chromium, subscribe(base, channel, after="earliest"))
        assert socket.closed() == {"code": 1006, "reason": "", "clean": False}
        assert socket.state()["errors"] == 1 and socket.state()["got"] == []
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").json()["position"] == position


def test_credentials_are_not_asked_for_and_an_answer_never_allows_them_to_everyone(server, chromium, allowed, channel):
    """eventsource/request-credentials, eventsource-cross-origin with withCredentials: there is nothing here that cookies would open."""
    with http() as client:
        with client.stream("GET", subscribe(server.url, channel),
                           headers={"Origin": allowed.url, "Accept": "text/event-stream", "Cookie": "a=b"}) as answer:
            assert answer.headers["access-control-allow-origin"] == allowed.url
            assert "origin" in answer.headers["vary"].lower()
            assert "set-cookie" not in answer.headers
            allows = answer.headers.get("access-control-allow-credentials") == "true"
    chromium.open(f"{allowed.url}/")
    source = Source(chromium, subscribe(server.url, channel), credentials=True)
    state = source.until(lambda state: state["errors"] or state["control"], "has an outcome")
    assert state["ready"] == (1 if allows else 2)


PREFLIGHTS = {
    "what an EventSource comes back with": ("GET", "last-event-id, cache-control"),
    "a publication": ("POST", "content-type, idempotency-key"),
    "a poll": ("GET", "prefer"),
}


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("name", PREFLIGHTS)
def test_a_preflight_allows_what_a_page_of_an_allowed_origin_sends_and_nothing_to_others(server, allowed, stranger, name, version):
    """eventsource/eventsource-cross-origin-preflight."""
    method, fields = PREFLIGHTS[name]
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": fields}
    with http(version) as client:
        url = f"{server.url}/v1/subscribe?channel=a"
        answer = client.options(url, headers={"Origin": allowed.url, **asked})
        assert answer.status_code in (200, 204) and answer.content == b""
        assert answer.headers["access-control-allow-origin"] == allowed.url and "origin" in answer.headers["vary"].lower()
        assert method in re.split(r",\s*", answer.headers["access-control-allow-methods"])
        granted = re.split(r",\s*", answer.headers["access-control-allow-headers"].lower())
        assert set(re.split(r",\s*", fields)) <= set(granted)
        for origin in (stranger.url, "null", allowed.url + ".evil.example", allowed.url.replace("http", "https"), allowed.url + "/"):
            answer = client.options(url, headers={"Origin": origin, **asked})
            assert_problem(answer, 403, "origin-not-allowed")
            assert "access-control-allow-origin" not in answer.headers, f"{origin} is told {answer.headers}"


def test_each_answer_on_one_http2_connection_has_the_origin_of_its_own_request(start_server):
    """Fetch standard, CORS check: what a page may read does not depend on what else its connection carries."""
    origins = ["https://one.example", "https://two.example"]
    server = start_server(arguments=["--allow-origin", origins[0], "--allow-origin", origins[1]])
    with RawHTTP2(server.port) as client:
        wanted, found = {}, {}
        for origin in (*origins, None, origins[0]):
            stream, client.next_stream = client.next_stream, client.next_stream + 2
            head = [(":method", "POST"), (":path", "/v1/channels/alerts.x"), (":scheme", "http"), (":authority", "localhost"),
                    ("content-type", "application/json"), *([("origin", origin)] if origin else [])]
            client.state.send_headers(stream, head)
            client.state.send_data(stream, b"1", end_stream=True)
            wanted[stream] = origin
        client.flush()
        for event in client.events(5):
            if type(event).__name__ == "ResponseReceived":
                fields = {name.decode(): value.decode() for name, value in event.headers}
                assert fields[":status"] == "201"
                found[event.stream_id] = fields.get("access-control-allow-origin")
            if len(found) == len(wanted):
                break
    assert found == wanted


# websockets/: the opening handshake

@pytest.mark.parametrize("offered, chosen", [
    ([], ""), (["tocsin.v1"], "tocsin.v1"), (["other.v9", "tocsin.v1"], "tocsin.v1"), (["tocsin.v1", "tocsin.v1.cbor"], "tocsin.v1"),
    (["tocsin.v1.cbor", "tocsin.v1"], "tocsin.v1.cbor"), (["tocsin.v1.x", "x", "tocsin.v1.cbor"], "tocsin.v1.cbor"),
    (["other.v9"], None), (["TOCSIN.V1"], None), (["a", "b", "c"], None),
], ids=lambda value: ",".join(value) if isinstance(value, list) else None)
def test_the_first_subprotocol_that_is_known_is_chosen_and_none_if_none_is(chromium, base, channel, offered, chosen):
    """websockets/Create-valid-url-protocol, -array-protocols, -protocol-empty, Create-protocols-repeated-case-insensitive."""
    socket = Socket(chromium, subscribe(base, channel), offered)
    state = socket.opened()
    if chosen is None:
        # A browser that offered subprotocols does not go on without one.
        assert not state["opened"] and state["closed"] == {"code": 1006, "reason": "", "clean": False}
        answer, = chromium.told("Network.webSocketHandshakeResponseReceived")
        assert "sec-websocket-protocol" not in {name.lower() for name in answer["response"]["headers"]}
    else:
        assert state["opened"] and state["protocol"] == chosen
        message = socket.messages(1)[0]
        assert isinstance(message, list) if chosen.endswith("cbor") else json.loads(message)["type"] == "hello"


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
    statuses = chromium.run("""async url => Promise.all([...Array(10).keys()].map(number =>
        fetch(url, {method: "POST", body: String(number), headers: {"Content-Type": "application/json"}}).then(answer => answer.status)))""",
                            f"{server.tls_url}/v1/channels/{channel}")
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
        raw.sendall((f"GET /v1/subscribe HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}"
                     f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        head = raw.recv(4096).split(b"\r\n\r\n")[0].decode("latin-1")
    assert head.startswith(f"HTTP/1.1 {status} "), head
    assert re.findall(r"(?im)^sec-websocket-protocol: (.*)\r$", head + "\r") == ([chosen] if chosen else []), head


# websockets/: messages

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


# websockets/: the end

REASONS = {
    "no code": (),
    "1000": (1000,),
    "1000 and a reason": (1000, "reason"),
    "3000": (3000, "done"),
    "4999": (4999, "x" * 123),
    "123 bytes of two each": (3999, "\xe9" * 61 + "x"),
    "123 bytes of three each": (4000, "\u20ac" * 41),
    "123 bytes of four each": (4001, "\U0001f413" * 30 + "abc"),
    "a null character": (3001, "a\0b"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_close_of_the_page_is_clean_and_has_its_own_code_back(server, chromium, base, channel, name):
    """websockets/Close-1000, -1000-reason, -1005, -3000-reason, -4999-reason, -Reason-124Bytes, -clean-close."""
    arguments = REASONS[name]
    before = metric(server, "tocsin_connections")
    socket = Socket(chromium, subscribe(base, channel))
    socket.messages(1)
    assert socket.state()["ready"] == 1
    socket.close(*arguments)
    closed = socket.closed()
    assert closed["clean"] and closed["code"] == (arguments[0] if arguments else 1005), closed
    assert closed["reason"] in ("", *arguments[1:]) and socket.state()["errors"] == 0 and socket.state()["ready"] == 3
    eventually(lambda: metric(server, "tocsin_connections") <= before, "the connection is gone, or goes on without it")


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


@pytest.mark.parametrize("protocol, message, code", [
    ("tocsin.v1", b"\x01\x02", 1003), ("tocsin.v1", b"{}", 1003), ("tocsin.v1", "not JSON", 1007), ("tocsin.v1", "", 1007),
    ("tocsin.v1", "[" + "1," * 40_000 + "1]", 1009), ("tocsin.v1.cbor", "{}", 1003), ("tocsin.v1.cbor", b"\xff", 1007),
    ("tocsin.v1.cbor", b"", 1007), ("tocsin.v1.cbor", b"\xa1" + b"\x61x" + b"\x79\xff\xff" + b"y" * 65535, 1009),
], ids=["bytes", "JSON-as-bytes", "no-JSON", "nothing", "too-long", "text-for-CBOR", "no-CBOR", "no-bytes", "too-long-CBOR"])
def test_a_close_of_the_server_is_clean_and_says_why(chromium, base, channel, protocol, message, code):
    """websockets/Close-server-initiated-close."""
    socket = Socket(chromium, subscribe(base, channel), [protocol])
    socket.messages(1)
    (socket.send_bytes if isinstance(message, bytes) else socket.send)(message)
    closed = socket.closed()
    assert closed["code"] == code and closed["clean"] and closed["reason"], closed
    assert socket.state()["errors"] == 0


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
    socket.messages(1)
    pongs = metric(server, "tocsin_websocket_round_trip_seconds_count")
    eventually(lambda: metric(server, "tocsin_websocket_round_trip_seconds_count") >= pongs + 2, "two pings are answered")
    publish(server, channel, "still here")
    assert socket.objects(2)[1]["data"] == "still here" and socket.state()["closed"] is None


def test_a_websocket_that_nobody_answers_is_a_failure_without_a_status(server, chromium, base, channel):
    """websockets/opening-handshake: 4xx end in an error and 1006, and a page is told nothing more."""
    for path in ("/v1/subscribe?channel=a..b", "/nowhere", "/v1/publish"):
        socket = Socket(chromium, f"{base}{path}")
        assert socket.closed() == {"code": 1006, "reason": "", "clean": False}
        assert socket.state()["errors"] == 1
