"""Peers of many kinds: browsers, command-line tools and client libraries, each by its own ways and all at once."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import threading
import uuid

import aiohttp
import cbor2
import httpx
import httpx_sse
import pytest
import websockets.exceptions
import websockets.sync.client
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from browsers import Line, Pages, Socket, Source
from support import Promise, Server, eventually, http, publish, publish_many, run, trusting_context
from wpt import metric, post, subscribe

pytestmark = pytest.mark.timeout(110)
COUNT = 30
NODE = {**os.environ, "NODE_PATH": "/usr/share/nodejs", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"}


@pytest.fixture(scope="module")
def allowed():
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def started(certificate, allowed):
    server = Server(certificate, arguments=["--allow-origin", allowed.url])
    yield server
    assert server.stop() == 0, "".join(server.output[-40:])


@pytest.fixture
def server(started):
    yield started
    assert started.alive, "".join(started.output[-40:])


@pytest.fixture
def channel():
    """A plain channel that no other test uses."""
    return f"peers.{uuid.uuid4().hex[:12]}"


carriers = pytest.mark.parametrize("carrier", ["http1", "http2"])
both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


def origin(server, carrier):
    return server.tls_url if carrier == "http2" else server.url


def page(browser, server, carrier):
    """Opens a page of the server, and sees that it came over that version of HTTP; answers its origin."""
    base = origin(server, carrier)
    browser.open(f"{base}/healthz")
    protocol = browser.run("() => performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert protocol == {"http1": "http/1.1", "http2": "h2"}[carrier]
    return base


def assert_whole(messages, count=COUNT):
    """These are the notifications 0, 1, 2, … of a channel, each once."""
    promise = Promise()
    for message in messages:
        promise.see(message)
    assert [message["data"] for message in messages] == list(range(count))


def publish_count(server, channel, count=COUNT):
    for number in range(count):
        publish(server, channel, number)


# Browsers

READ_STREAM = """(name, url) => {
    const state = {got: [], fault: null}
    window.followed ??= {}
    window.followed[name] = state
    const read = async () => {
        const answer = await fetch(url, {headers: {Accept: "text/event-stream"}})
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
        let text = ""
        for (;;) {
            const {done, value} = await reader.read()
            if (done) return
            const events = (text + value).split("\\n\\n")
            text = events.pop()
            for (const event of events) {
                const data = event.split("\\n").find(line => line.startsWith("data: "))
                if (data) state.got.push(JSON.parse(data.slice(6)))
            }
        }
    }
    read().catch(fault => { state.fault = String(fault) })
}"""

POLL = """(name, url, after) => {
    const state = {got: [], fault: null}
    window.followed ??= {}
    window.followed[name] = state
    const poll = async () => {
        for (;;) {
            const answer = await fetch(`${url}&after=${after}`, {headers: {Prefer: "wait=20"}})
            const body = await answer.json()
            state.got.push(...body.messages)
            after = body.position
        }
    }
    poll().catch(fault => { state.fault = String(fault) })
}"""

GOT = "name => window.followed[name].got"


@carriers
def test_a_browser_follows_by_websocket_event_source_fetch_and_polls(server, browser, channel, carrier):
    base = page(browser, server, carrier)
    accepted = metric(server, "tocsin_connections_accepted_total")
    url = subscribe(base, channel, after="latest")
    socket, source = Socket(browser, url), Source(browser, url)
    position = socket.objects(1)[0]["position"]
    source.begun()
    browser.run(READ_STREAM, "stream", url)
    eventually(lambda: browser.run(GOT, "stream"), "the fetch has its hello")
    browser.run(POLL, "poll", subscribe(base, channel), position)
    publish_count(server, channel)
    assert_whole([json.loads(event["data"]) for event in source.events(COUNT)])
    assert_whole(eventually(lambda: len(got := browser.run(GOT, "stream")) > COUNT and got, "the fetch has all")[1:])
    assert_whole(eventually(lambda: len(got := browser.run(GOT, "poll")) >= COUNT and got, "the polls have all"))
    assert_whole(socket.objects(COUNT + 1)[1:])
    if carrier == "http2":
        # Each publication had a connection of its own, and so have the two looks at the metrics.
        assert metric(server, "tocsin_connections_accepted_total") - accepted == COUNT + 1


@carriers
def test_a_browser_publishes_by_fetch_and_by_websocket(server, browser, channel, carrier):
    base = page(browser, server, carrier)
    statuses = browser.run("""async url => {
        const statuses = []
        const send = async (body, type) => statuses.push((await fetch(url, {method: "POST", body, headers: {"Content-Type": type}})).status)
        await send('{"a": [1, 2.50, null]}', "application/json")
        await send("\\ufeffa\\r\\n\\0\\u20ac", "text/plain")
        await send(new Uint8Array([0, 255, 128, 10]), "application/octet-stream")
        await send(new Blob(['"', "z".repeat(300000), '"']), "application/json")
        return statuses
    }""", f"{base}/v1/channels/{channel}")
    assert statuses == [201] * 4
    socket = Socket(browser, f"{base}/v1/subscribe")
    socket.messages(1)
    socket.send(json.dumps({"id": "own", "type": "publish", "channel": channel, "data": {"x": "\u20ac\0"}, "event": "goal"}))
    assert socket.objects(2)[1]["sequence"] == 5
    with http() as client:
        messages = client.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"]
    assert [message["data"] for message in messages] == [
        {"a": [1, 2.5, None]}, "\ufeffa\r\n\0\u20ac", "AP+ACg==", "z" * 300_000, {"x": "\u20ac\0"}]
    assert messages[2]["encoding"] == "base64" and messages[4]["event"] == "goal"


@carriers
def test_firefox_comes_back_with_its_event_source_where_it_was(server, firefox, channel, carrier):
    line = Line(server.tls_port if carrier == "http2" else server.port)
    try:
        base = f"{'https' if carrier == 'http2' else 'http'}://127.0.0.1:{line.port}"
        firefox.open(f"{base}/healthz")
        source = Source(firefox, subscribe(base, channel, after="latest"))
        raw = Source(firefox, subscribe(base, channel, after="latest", format="raw"), ["goal"])
        for one in (source, raw):
            one.begun()
        for number in range(3):
            publish(server, channel, number, event="goal")
        position = source.events(3)[-1]["id"]
        raw.events(3)
        line.cut()
        for number in range(3, 6):
            publish(server, channel, number, event="goal")
        for one in (source, raw):
            one.until(lambda state: len(state["control"]) >= 2, "is back")
        publish(server, channel, 6, event="goal")
        assert_whole([json.loads(event["data"]) for event in source.events(7)], 7)
        assert [event["data"] for event in raw.events(7)] == [str(number) for number in range(7)]
        assert source.state()["opened"] == raw.state()["opened"] == 2
        if carrier == "http1":
            _, second = line.heads(f"/v1/subscribe?channel={channel}&after=latest")
            assert second["last-event-id"] == position and second["accept"] == "text/event-stream"
    finally:
        firefox.open("about:blank")
        line.close()


@carriers
def test_firefox_sees_the_codes_of_its_closes_and_the_reasons_of_the_server(server, firefox, channel, carrier):
    base = page(firefox, server, carrier)
    for arguments in ((1000,), (3000, "done"), (4999, "\u20ac" * 41)):
        socket = Socket(firefox, subscribe(base, channel))
        socket.messages(1)
        socket.close(*arguments)
        closed = socket.closed()
        assert closed["clean"] and closed["code"] == arguments[0], closed
    for message, code in ((b"\1", 1003), ("no JSON", 1007), ("x" * 70_000, 1009)):
        socket = Socket(firefox, subscribe(base, channel))
        socket.messages(1)
        (socket.send_bytes if isinstance(message, bytes) else socket.send)(message)
        closed = socket.closed()
        assert closed["code"] == code and closed["reason"], closed


@carriers
def test_firefox_sees_a_close_of_the_server_as_clean(server, firefox, channel, carrier):
    """RFC 6455 section 7.1.2: the server has said its close, and waits for that of the client before it ends the connection."""
    base = page(firefox, server, carrier)
    socket = Socket(firefox, subscribe(base, channel))
    socket.messages(1)
    socket.send_bytes(b"bytes")
    assert socket.closed() == {"code": 1003, "reason": "tocsin.v1 is text", "clean": True}


@carriers
def test_firefox_is_told_of_a_restart_and_sees_a_clean_close(start_server, firefox, channel, carrier):
    server = start_server(arguments=["--drain", "2"])
    base = page(firefox, server, carrier)
    socket, source = Socket(firefox, subscribe(base, channel)), Source(firefox, subscribe(base, channel))
    socket.messages(1)
    source.begun()
    assert server.stop() == 0
    closed = socket.closed()
    assert socket.objects(2)[1]["type"] == "going-away"
    state = source.until(lambda state: state["errors"], "has ended")
    assert [event["type"] for event in state["control"]] == ["hello", "going-away"] and state["ready"] == 0
    assert closed == {"code": 1012, "reason": "the server restarts", "clean": True}


def test_firefox_chooses_its_subprotocol_and_says_what_was_agreed_on(server, firefox, channel):
    for carrier in ("http1", "http2"):
        base = page(firefox, server, carrier)
        for offered, chosen in (([], ""), (["x", "tocsin.v1"], "tocsin.v1"), (["tocsin.v1.cbor", "tocsin.v1"], "tocsin.v1.cbor")):
            state = Socket(firefox, subscribe(base, channel), offered).opened()
            assert state["opened"] and state["protocol"] == chosen and state["extensions"].startswith("permessage-deflate")


@carriers
def test_a_browser_reads_and_writes_cbor(server, browser, channel, carrier):
    base = page(browser, server, carrier)
    socket = Socket(browser, subscribe(base, channel, after="latest"), ["tocsin.v1.cbor"])
    assert cbor2.loads(bytes(socket.messages(1)[0]))["type"] == "hello"
    publish(server, channel, {"x": [1 << 70, 0.5, "\u20ac", None]})
    assert post(server, channel, b"\0\xff", "application/octet-stream").status_code == 201
    socket.messages(3)
    socket.send_bytes(cbor2.dumps({"id": 1, "type": "ping"}))
    found = [cbor2.loads(bytes(message)) for message in socket.messages(4)[1:]]
    assert [message["data"] for message in found[:2]] == [{"x": [1 << 70, 0.5, "\u20ac", None]}, b"\0\xff"]
    assert found[2] == {"type": "reply", "id": 1}


def test_firefox_reads_across_origins_what_is_allowed_and_nothing_else(server, firefox, allowed, channel):
    stranger = Pages()
    try:
        firefox.open(f"{allowed.url}/")
        source = Source(firefox, subscribe(server.url, channel, after="latest"))
        source.begun()
        position = publish(server, channel, "once")["position"]
        assert source.events(1)[0]["origin"] == server.url
        preflighted = firefox.run("""async (url, position) => (await (await fetch(url,
            {headers: {"Last-Event-ID": position, Prefer: "wait=0"}})).json()).messages""", subscribe(server.url, channel), position)
        assert preflighted == []
        socket = Socket(firefox, subscribe(server.url, channel))
        assert socket.opened()["opened"]
        firefox.open(f"{stranger.url}/")
        source = Source(firefox, subscribe(server.url, channel, after="earliest"))
        state = source.until(lambda state: state["errors"], "has failed")
        assert (state["ready"], state["count"], state["control"]) == (2, 0, [])
        assert firefox.run("url => fetch(url, {method: 'POST', body: '1'}).then(() => 'sent', () => 'failed')",
                           f"{server.url}/v1/channels/{channel}") == "failed"
        assert Socket(firefox, subscribe(server.url, channel)).closed()["code"] == 1006
        with http() as client:
            assert client.get(f"{server.url}/v1/channels/{channel}").json()["position"] == position
    finally:
        stranger.close()


# Programs

def program(*arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Lines:
    """A program that writes to its standard output as messages come; `seen` has their objects, from hello on."""

    def __init__(self, *arguments, **options):
        self.seen = []
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        **options)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            if "{" in line and (line.startswith("data:") or line.startswith("{")):
                self.seen.append(json.loads(line.removeprefix("data:")))

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.thread.join(10)
        self.process.stdout.close()


CURL = ["curl", "-sS", "-N", "-k", "--noproxy", "*", "--max-time", "60", "-H", "Accept: text/event-stream"]
# nghttp holds back what it writes to a pipe, unless told otherwise.
NGHTTP = ["stdbuf", "-oL", "nghttp", "-y", "--timeout=60", "-H", "accept: text/event-stream"]


@both
def test_nghttp_shows_an_event_stream(server, channel, tls):
    publish_count(server, channel, 10)
    base = server.tls_url if tls else server.url
    stream = Lines(*NGHTTP, subscribe(base, channel, after="earliest"))
    try:
        eventually(lambda: len(stream.seen) >= 11, "nghttp shows what was published")
        for number in range(10, 20):
            publish(server, channel, number)
        eventually(lambda: len(stream.seen) >= 21, "nghttp shows what comes")
        assert stream.seen[0]["type"] == "hello"
        assert_whole(stream.seen[1:], 20)
    finally:
        stream.close()


NGHTTP_OPTIONS = {
    "as it is": [], "windows of a KiB": ["-w10", "-W10"], "windows of 15 bytes": ["-w4"], "padding": ["-b100"], "no table": ["-c0"],
    "a table that grows": ["-c0", "-c65536"], "no dependencies": ["--no-dep"],
    "many at once": ["-m30"], "few at a time": ["-m30", "-M2"], "a trailer": ["--trailer", "a: b"],
}


@both
@pytest.mark.parametrize("name", NGHTTP_OPTIONS)
def test_nghttp_gets_the_same_by_whatever_framing(server, channel, tls, name):
    text = "0123456789abcdef" * (16 if "-w4" in NGHTTP_OPTIONS[name] else 2000)
    publish_many(server, [(channel, text)] * 3)
    path = f"/v1/channels/{channel}/history"
    with http() as client:
        expected = client.get(f"{server.url}{path}").text
    url = (server.tls_url if tls else server.url) + path
    times = 30 if "-m30" in NGHTTP_OPTIONS[name] else 1
    output = program("nghttp", "-y", "--timeout=20", *NGHTTP_OPTIONS[name], url)
    # The bodies of several streams come in turns.
    assert output == expected if times == 1 else sorted(output) == sorted(expected * times)


@both
def test_a_header_of_nghttp_that_takes_many_frames_is_told_to_be_too_large(server, tls):
    """18 KiB in HEADERS and CONTINUATION: more than is taken, and no reason to end the connection."""
    output = program("nghttp", "-v", "-y", "--continuation", "--timeout=20", f"{server.tls_url if tls else server.url}/healthz")
    assert ":status: 431" in output and "/problems/head-too-large" in output
    assert "recv GOAWAY" not in output and "RST_STREAM" not in output


@both
@pytest.mark.parametrize("options", [[], ["--expect-continue"], ["-b200"], ["--trailer", "a: b"]], ids=" ".join)
def test_nghttp_publishes(server, channel, tls, options, tmp_path):
    """With a body larger than the window that a stream begins with."""
    payload = {"text": "y" * 200_000}
    (tmp_path / "payload.json").write_text(json.dumps(payload))
    output = program("nghttp", "-y", "--timeout=20", *options, "-H", ":method: POST", "-H", "content-type: application/json",
                     "-d", str(tmp_path / "payload.json"), f"{server.tls_url if tls else server.url}/v1/channels/{channel}")
    assert json.loads(output)["sequence"] == 1
    with http() as client:
        messages = client.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"]
    assert [message["data"] for message in messages] == [payload]


@both
def test_the_settings_that_nghttp_shows_offer_extended_connect_and_bound_the_streams(server, tls):
    output = program("nghttp", "-v", "-n", "-y", f"{server.tls_url if tls else server.url}/healthz")
    received = output[output.index("recv SETTINGS frame"):]
    assert "SETTINGS_ENABLE_CONNECT_PROTOCOL(0x08):1" in received
    assert 10 <= int(re.search(r"SETTINGS_MAX_CONCURRENT_STREAMS\(0x03\):(\d+)", received)[1]) <= 1000
    assert "recv GOAWAY" not in output and "RST_STREAM" not in output and ":status: 200" in output


H2LOAD_WAYS = {
    "HTTP/2 by prior knowledge": ([], False), "HTTP/2 over TLS": ([], True),
    "HTTP/1.1": (["--h1"], False), "HTTP/1.1 over TLS": (["--h1"], True),
}


def h2load(*arguments):
    """Runs h2load; answers how many requests succeeded, and how many answers there were of each hundred."""
    output = program("h2load", *arguments)
    words = ("total", "started", "done", "succeeded", "failed", "errored", "timeout")
    counts = re.search("requests: " + ", ".join(rf"(\d+) {word}" for word in words), output)
    total, started, done, succeeded, failed, errored, timeout = map(int, counts.groups())
    assert total == started == done and failed == errored == timeout == 0, output
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    return succeeded, list(map(int, codes.groups()))


@pytest.mark.parametrize("way", H2LOAD_WAYS)
def test_h2load_has_all_its_requests_answered(server, way):
    options, tls = H2LOAD_WAYS[way]
    parallel = ["-m", "10"] if not options else []
    assert h2load(*options, "-n", "400", "-c", "8", "-t", "1", *parallel, f"{server.tls_url if tls else server.url}/healthz") == (
        400, [400, 0, 0, 0])


@pytest.mark.parametrize("way", H2LOAD_WAYS)
def test_h2load_publishes_each_message_once(server, channel, way, tmp_path):
    options, tls = H2LOAD_WAYS[way]
    parallel = ["-m", "10"] if not options else []
    (tmp_path / "payload.json").write_text('{"x": 1}')
    assert h2load(*options, "-n", "120", "-c", "4", "-t", "1", *parallel, "-d", str(tmp_path / "payload.json"),
                  "-H", "content-type: application/json", f"{server.tls_url if tls else server.url}/v1/channels/{channel}") == (
        120, [120, 0, 0, 0])
    with http() as client:
        messages = client.get(f"{server.url}/v1/channels/{channel}/history", params={"limit": 1000}).json()["messages"]
    assert [message["sequence"] for message in messages] == list(range(1, 121))
    assert all(message["data"] == {"x": 1} for message in messages)


def test_h2load_over_small_windows_reads_large_answers(server, channel):
    publish(server, channel, "w" * 100_000)
    assert h2load("-n", "20", "-c", "2", "-m", "5", "-w", "12", "-W", "14", f"{server.url}/v1/channels/{channel}/history") == (
        20, [20, 0, 0, 0])


# Node's ws

NODE_CLIENT = """
const WebSocket = require("ws")
const {url, deflate, fragments, channel, pings, count} = JSON.parse(process.argv[1])
const socket = new WebSocket(url, ["tocsin.v1"], {perMessageDeflate: deflate, rejectUnauthorized: false})
const found = {messages: [], pings: 0, pongs: []}
const stop = setTimeout(() => { console.error(JSON.stringify(found)); process.exit(3) }, 20000)
const check = () => {
    if (found.messages.length < count || found.pings < pings || found.pongs.length < 2) return
    if (socket.readyState === WebSocket.OPEN) socket.close(4321, "bye")
}
socket.on("open", () => {
    found.protocol = socket.protocol
    found.extensions = socket.extensions
    for (const parts of fragments) parts.forEach((part, index) => {
        socket.send(part, {fin: index === parts.length - 1, compress: deflate !== false})
    })
    socket.ping("first")
    socket.ping(Buffer.alloc(125, 7))
})
socket.on("message", (data, isBinary) => { found.messages.push(isBinary ? null : JSON.parse(data)); check() })
socket.on("ping", () => { found.pings += 1; check() })
socket.on("pong", data => { found.pongs.push(data.length); check() })
socket.on("error", fault => { console.error(String(fault)); process.exit(4) })
socket.on("close", (code, reason) => { clearTimeout(stop); found.close = [code, String(reason)]; console.log(JSON.stringify(found)) })
"""

NODE_DEFLATE = {
    "off": False,
    "on": True,
    "for everything": {"threshold": 0},
    "without contexts": {"threshold": 0, "serverNoContextTakeover": True, "clientNoContextTakeover": True},
    "a small window of its own": {"threshold": 0, "clientMaxWindowBits": 9},
    "a small window of the server": {"threshold": 0, "serverMaxWindowBits": 9},
    "the largest windows": {"threshold": 0, "serverMaxWindowBits": 15, "clientMaxWindowBits": 15},
}


@both
@pytest.mark.parametrize("name", NODE_DEFLATE)
def test_the_websocket_of_node_sends_fragments_pings_and_compressed_messages(server, channel, tls, name):
    text = "\u20ac\U0001f413" + "a long message " * 2000
    command = json.dumps({"id": "fragments", "type": "publish", "channel": channel, "data": text})
    ping = json.dumps({"id": "ping", "type": "ping"})
    wanted = {
        "url": subscribe(server.tls_url if tls else server.url, channel, after="latest").replace("http", "ws", 1),
        "deflate": NODE_DEFLATE[name], "channel": channel, "pings": 1, "count": 4,
        "fragments": [[command[:1], command[1:7], "", command[7:20_000], command[20_000:]], [ping]],
    }
    found = json.loads(program("nodejs", "-e", NODE_CLIENT, json.dumps(wanted), env=NODE))
    assert found["protocol"] == "tocsin.v1" and found["close"][0] == 4321 and found["pongs"] == [5, 125]
    assert found["extensions"].startswith("permessage-deflate") if NODE_DEFLATE[name] else found["extensions"] == ""
    assert found["messages"][0]["type"] == "hello"
    replies = {message["id"]: message for message in found["messages"] if message["type"] == "reply"}
    assert replies["ping"] == {"type": "reply", "id": "ping"} and replies["fragments"]["sequence"] == 1
    assert [message["data"] for message in found["messages"] if message["type"] == "notification"] == [text]


# Libraries of Python

WINDOWS = [None, 8, 9, 10, 12, 15]


@pytest.mark.parametrize("server_bits", WINDOWS, ids=lambda bits: f"server_max_window_bits={bits}")
def test_every_offer_of_permessage_deflate_is_agreed_on_or_declined_and_then_kept(server, channel, server_bits):
    """RFC 7692 section 7.1: a window of 256 bytes is none that zlib has, so that offer is declined."""
    random = os.urandom(20_000).hex()
    texts = ["short", "z" * 60_000, random, "\u20ac\U0001f413\0" * 500, ""]
    for takeover in ((False, False), (True, False), (False, True), (True, True)):
        for client_bits in (None, True, 9, 15):
            name = f"{channel}.{uuid.uuid4().hex[:8]}"
            offer = ClientPerMessageDeflateFactory(
                server_no_context_takeover=takeover[0], client_no_context_takeover=takeover[1], server_max_window_bits=server_bits,
                client_max_window_bits=client_bits, compress_settings={"memLevel": 5})
            with websockets.sync.client.connect(
                    subscribe(server.url, name, after="latest").replace("http", "ws", 1), compression=None, extensions=[offer],
                    subprotocols=["tocsin.v1"], proxy=None, close_timeout=5) as connection:
                agreed = connection.protocol.extensions
                assert len(agreed) == (0 if server_bits == 8 else 1), (takeover, client_bits)
                if agreed:
                    assert agreed[0].remote_no_context_takeover and agreed[0].local_no_context_takeover
                    assert agreed[0].remote_max_window_bits == (server_bits or 15)
                assert json.loads(connection.recv(timeout=10))["type"] == "hello"
                for number, text in enumerate(texts):
                    command = json.dumps({"id": number, "type": "publish", "channel": name, "data": text})
                    connection.send([command[:10], command[10:]] if number % 2 else command)
                    came = [json.loads(connection.recv(timeout=10)) for _ in range(2)]
                    reply, = [message for message in came if message["type"] == "reply"]
                    notification, = [message for message in came if message["type"] == "notification"]
                    assert reply["id"] == number and reply["sequence"] == number + 1 and notification["data"] == text
                assert connection.ping(b"x" * 125).wait(10)


@both
@pytest.mark.parametrize("compress", [0, 9, 15])
def test_aiohttp_compresses_with_windows_large_and_small(server, channel, tls, compress):
    async def work():
        url = subscribe(server.tls_url if tls else server.url, channel, after="latest")
        texts = ["short", "z" * 60_000, os.urandom(20_000).hex(), "\u20ac" * 10_000]
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url, ssl=trusting_context(), protocols=["tocsin.v1"], compress=compress) as socket:
                assert socket.protocol == "tocsin.v1" and bool(socket.compress) == bool(compress)
                assert (await socket.receive_json())["type"] == "hello"
                for number, text in enumerate(texts):
                    await socket.send_json({"id": number, "type": "publish", "channel": channel, "data": text})
                    came = [await socket.receive_json() for _ in range(2)]
                    assert {message["type"] for message in came} == {"reply", "notification"}
                    assert [message["data"] for message in came if message["type"] == "notification"] == [text]
                await socket.ping(b"x")
    run(work())


@both
def test_aiohttp_has_the_code_of_a_close_of_the_server(server, channel, tls):
    """RFC 6455 section 7.1.2: the client's close still has somewhere to go."""
    async def work():
        async with aiohttp.ClientSession() as session:
            url = subscribe(server.tls_url if tls else server.url, channel)
            async with session.ws_connect(url, ssl=trusting_context(), protocols=["tocsin.v1"]) as socket:
                assert (await socket.receive_json())["type"] == "hello"
                await socket.send_bytes(b"bytes")
                message = await socket.receive()
                assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1003, "tocsin.v1 is text")
                assert socket.close_code == 1003
    run(work())


# All at once

class WebSocketThread:
    """The package websockets, in a thread."""

    def __init__(self, url, **options):
        self.seen = []
        self.stack = contextlib.ExitStack()
        self.socket = self.stack.enter_context(websockets.sync.client.connect(
            url.replace("http", "ws", 1), proxy=None, close_timeout=2, max_size=None, subprotocols=["tocsin.v1"], **options))
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            for text in self.socket:
                self.seen.append(json.loads(text))

    def close(self):
        self.stack.close()
        self.thread.join(10)


class StreamThread:
    """httpx with httpx-sse, or aiohttp as WebSocket or event stream, in a thread with a loop of its own."""

    def __init__(self, read, *arguments):
        self.seen, self.fault = [], None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._bounded(read, arguments)), daemon=True)
        self.thread.start()

    async def _bounded(self, read, arguments):
        task = asyncio.create_task(read(self.seen, *arguments))
        while not self.ended.is_set() and not task.done():
            await asyncio.sleep(0.05)
        task.cancel()
        self.fault, = await asyncio.gather(task, return_exceptions=True)

    def close(self):
        self.ended.set()
        self.thread.join(10)


async def httpx_stream(seen, url):
    async with httpx.AsyncClient(http1=False, http2=True, verify=trusting_context(), trust_env=False, timeout=60) as client:
        async with httpx_sse.aconnect_sse(client, "GET", url) as source:
            async for event in source.aiter_sse():
                # A heartbeat is an event without data to this library.
                if event.data:
                    seen.append(event.json())


async def aiohttp_socket(seen, url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=trusting_context(), compress=15) as socket:
        async for message in socket:
            seen.append(message.json())


async def aiohttp_stream(seen, url):
    async with aiohttp.ClientSession() as session:
        async with session.get(url, ssl=trusting_context(), headers={"Accept": "text/event-stream"}) as answer:
            async for line in answer.content:
                if line.startswith(b"data:"):
                    seen.append(json.loads(line[5:]))


class InPage:
    """What a page follows."""

    def __init__(self, followed):
        self.followed = followed

    @property
    def seen(self):
        if isinstance(self.followed, Socket):
            return self.followed.objects(0)
        return [json.loads(event["data"]) for event in (*self.followed.state()["control"], *self.followed.events(0))]

    def close(self):
        self.followed.close()


NODE_FOLLOWER = """
const WebSocket = require("ws")
const socket = new WebSocket(process.argv[1], ["tocsin.v1"])
socket.on("message", data => console.log(String(data)))
setTimeout(() => process.exit(0), 60000)
"""


def test_peers_of_every_kind_get_the_same_messages_at_once(server, chromium, firefox, channel):
    """A publisher of each kind besides: what one says all the others hear, in one order."""
    page(chromium, server, "http2")
    page(firefox, server, "http2")
    plain, tls = (subscribe(base, channel, after="latest") for base in (server.url, server.tls_url))
    peers = {}
    try:
        peers["Chromium, WebSocket over HTTP/2"] = InPage(Socket(chromium, tls))
        peers["Chromium, EventSource over HTTP/2"] = InPage(Source(chromium, tls))
        peers["Firefox, WebSocket over HTTP/2"] = InPage(Socket(firefox, tls))
        peers["Firefox, EventSource over HTTP/2"] = InPage(Source(firefox, tls))
        peers["curl, HTTP/1.1"] = Lines(*CURL, "--http1.1", plain)
        peers["curl, HTTP/2 by prior knowledge"] = Lines(*CURL, "--http2-prior-knowledge", plain)
        peers["curl, HTTP/2 over TLS"] = Lines(*CURL, "--http2", tls)
        peers["nghttp, HTTP/2 by prior knowledge"] = Lines(*NGHTTP, plain)
        peers["nghttp, HTTP/2 over TLS"] = Lines(*NGHTTP, tls)
        peers["node, WebSocket"] = Lines("nodejs", "-e", NODE_FOLLOWER, plain.replace("http", "ws", 1), env=NODE)
        peers["node, WebSocket over TLS"] = Lines("nodejs", "-e", NODE_FOLLOWER, tls.replace("http", "ws", 1), env=NODE)
        peers["websockets"] = WebSocketThread(plain)
        peers["websockets over TLS, as it is"] = WebSocketThread(tls, ssl=trusting_context(), compression=None)
        peers["httpx, HTTP/2"] = StreamThread(httpx_stream, plain)
        peers["httpx, HTTP/2 over TLS"] = StreamThread(httpx_stream, tls)
        peers["aiohttp, WebSocket"] = StreamThread(aiohttp_socket, plain)
        peers["aiohttp, event stream over TLS"] = StreamThread(aiohttp_stream, tls)
        for name, peer in peers.items():
            eventually(lambda: peer.seen, f"{name} has its hello", 20)

        url = f"{server.tls_url}/v1/channels/{channel}"
        json_type = ["-H", "content-type: application/json"]
        send = "(url, body) => fetch(url, {method: 'POST', body, headers: {'Content-Type': 'application/json'}}).then(() => 0)"
        expected = []
        for turn in range(5):
            publications = {
                "curl": lambda body: program("curl", "-sSkf", "--noproxy", "*", "--http2", *json_type, "-d", body, url),
                "Chromium": lambda body: chromium.run(send, url, body),
                "Firefox": lambda body: firefox.run(send, url, body),
                "httpx": lambda body: post(server, channel, body, "application/json"),
            }
            for name, say in publications.items():
                say(json.dumps([name, turn]))
                expected.append([name, turn])
        for name, peer in peers.items():
            eventually(lambda: len(peer.seen) > len(expected), f"{name} has all; fault: {getattr(peer, 'fault', None)!r}", 15)
            hello, *messages = peer.seen
            assert hello["type"] == "hello", name
            assert [message["data"] for message in messages] == expected, name
            promise = Promise()
            for message in messages:
                promise.see(message)
        orders = [peer.seen[1:] for peer in peers.values()]
        assert all(order == orders[0] for order in orders)
    finally:
        for peer in peers.values():
            peer.close()
