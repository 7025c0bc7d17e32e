"""What the Web Platform Tests of EventSource ask of a server, in Chromium over HTTP/1.1 and HTTP/2, and byte by byte.

The first line of each test names their cases that it stands for, in their folder `eventsource/`.
"""

import json
import re
import uuid

import pytest

from browsers import Line, Socket, Source
from support import Promise, RawHTTP2, RawWebSocket, assert_problem, connect, eventually, http, publish, query
from wpt import allowed, base, channel, metric, post, post_all, server, started, stranger, subscribe

__all__ = ["allowed", "base", "channel", "server", "started", "stranger"]
pytestmark = pytest.mark.timeout(100)
EVENT_STREAM = re.compile(r"text/event-stream(; ?charset=utf-8)?")
POSITION = re.compile(r"[0-9a-f]{12}\.[0-9n][0-9.n-]*")


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


# The format

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


def test_every_character_of_unicode_arrives(server, chromium, base, channel):
    """eventsource/format-utf-8, format-null-character: in one format over HTTP/1.1, in the other over HTTP/2."""
    form = "object" if base == server.url else "raw"
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


# To come back

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
    head = f"GET /v1/subscribe?{query(channel)} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: {name}\r\n"
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


NO_STREAMS = {
    "/v1/subscribe": 400, "/v1/subscribe?channel=a..b": 400, "/v1/subscribe?channel=a&after=nowhere": 400,
    "/v1/subscribe?channel=a&format=other": 400, "/v1/subscribe?channel=_own.a": 400, "/v1/nowhere": 404, "/v1/publish": 405,
    "/healthz": 200, "/metrics": 200, "/echo": 426,
}


def test_an_answer_that_is_no_stream_ends_an_event_source_for_good(server, chromium, base):
    """eventsource/request-status-error, format-mime-bogus: CLOSED after one error, and not opened again."""
    for path, status in NO_STREAMS.items():
        with http() as client:
            answer = client.get(f"{server.url}{path}", headers={"Accept": "text/event-stream"})
        assert answer.status_code == status and not answer.headers["content-type"].startswith("text/event-stream"), path
        source = Source(chromium, f"{base}{path}")
        state = source.until(lambda state: state["errors"], f"at {path} has failed")
        assert (state["ready"], state["opened"], state["errors"], state["count"], state["control"]) == (2, 0, 1, 0, []), path


@pytest.mark.parametrize("accept", [
    "text/event-stream", "TEXT/Event-Stream", "text/event-stream, */*;q=0.1", "*/*, text/event-stream;q=0.5"])
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
        last = socket.objects(3)[-1]
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


# Other origins

def test_a_page_of_an_allowed_origin_reads_streams_and_publishes(server, chromium, allowed, channel):
    """eventsource/eventsource-cross-origin, eventsource-cross-origin-preflight."""
    for origin in (server.url, server.tls_url):
        chromium.open(f"{allowed.url}/")
        source = Source(chromium, subscribe(origin, channel, after="latest"))
        source.begun()
        sent = chromium.run("""async (url, key) => {
            const answer = await fetch(url, {method: "POST", body: "[1]",
                headers: {"Content-Type": "application/json", "Idempotency-Key": key}})
            return [answer.status, await answer.json()]
        }""", f"{origin}/v1/channels/{channel}", uuid.uuid4().hex)
        assert sent[0] == 201
        event = source.events(1)[0]
        assert event["origin"] == origin and event["id"] == sent[1]["position"]
        publish(server, channel, "after it")
        text = chromium.run("""async (url, position) => {
            const headers = {"Last-Event-ID": position, Accept: "text/event-stream", "Cache-Control": "no-cache"}
            const answer = await fetch(url, {headers})
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
            let text = ""
            while (!text.includes("after it")) text += (await reader.read()).value
            await reader.cancel()
            return text
        }""", subscribe(origin, channel), sent[1]["position"])
        assert text.count("\nid: ") == 2 and "[1]" not in text
        polled = chromium.run("async (url) => (await (await fetch(url, {headers: {Prefer: 'wait=0'}})).json()).messages.length",
                              subscribe(origin, channel, after="earliest"))
        assert polled == 2 * (1 + (origin == server.tls_url))
        socket = Socket(chromium, subscribe(origin, channel))
        assert socket.opened()["opened"] and socket.objects(1)[0]["type"] == "hello"


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(server, chromium, stranger, channel):
    """eventsource/eventsource-cross-origin: an origin that is not allowed; websockets/opening-handshake/003."""
    position = publish(server, channel, "secret")["position"]
    for origin in (server.url, server.tls_url):
        chromium.open(f"{stranger.url}/")
        for source in (Source(chromium, subscribe(origin, channel, after="earliest")),
                       Source(chromium, subscribe(origin, channel, after="earliest"), credentials=True)):
            state = source.until(lambda state: state["errors"], "has failed")
            assert (state["ready"], state["opened"], state["control"], state["count"]) == (2, 0, [], 0)
        for fields in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}, {"Idempotency-Key": "a"}, {}):
            outcome = chromium.run("(url, headers) => fetch(url, {method: 'POST', body: '1', headers}).then(a => a.status, () => 'failed')",
                                   f"{origin}/v1/channels/{channel}", fields)
            assert outcome == "failed"
            chromium.run("url => fetch(url, {method: 'POST', body: '1', mode: 'no-cors'}).catch(() => 0).then(() => 0)",
                         f"{origin}/v1/channels/{channel}")
        socket = Socket(chromium, subscribe(origin, channel, after="earliest"))
        assert socket.closed() == {"code": 1006, "reason": "", "clean": False}
        assert socket.state()["errors"] == 1 and socket.state()["count"] == 0
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
        with http(version) as client:
            answer = client.options(url, headers={"Origin": origin, **asked})
        assert_problem(answer, 403, "origin-not-allowed")
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_refusal_names_no_origin_that_was_allowed_before_on_its_connection(server, allowed, stranger, version):
    """Fetch standard, CORS check: each answer is to its own request."""
    with http(version) as client:
        for origin in (allowed.url, stranger.url, allowed.url, None):
            answer = client.get(f"{server.url}/healthz", headers={"Origin": origin} if origin else {})
            assert answer.status_code == (403 if origin == stranger.url else 200)
            assert answer.headers.get("access-control-allow-origin") == (origin if origin == allowed.url else None)


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
