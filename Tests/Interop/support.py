"""What the interop tests share: the server as a process, clients on each transport, and the check of the promise."""

import asyncio
import base64
import contextlib
import json
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h2.connection
import h2.events
import h2.exceptions
import httpx
import httpx_sse
import websockets.asyncio.client
import websockets.sync.client

ROOT = Path(__file__).resolve().parents[2]
SMALL_PATIENCE = 10.0


def binary():
    """The server under test."""
    named = os.environ.get("TOCSIN_BINARY")
    if named:
        if not os.access(named, os.X_OK):
            raise RuntimeError(f"TOCSIN_BINARY is {named!r}, which is not a program")
        return named
    for configuration in ("release", "debug"):
        candidate = ROOT / ".build" / configuration / "tocsin"
        if os.access(candidate, os.X_OK):
            return str(candidate)
    raise RuntimeError("no server to test: build it (swift build --product tocsin) or name it in TOCSIN_BINARY")


def make_certificate(folder, name="server"):
    """A self-signed certificate for localhost; answers the paths of the chain and the key."""
    chain, key = Path(folder) / f"{name}.pem", Path(folder) / f"{name}-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True, timeout=30)
    return chain, key


def trusting_context(alpn=None):
    """A TLS context that accepts the self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def eventually(condition, what, seconds=SMALL_PATIENCE, every=0.05):
    """Waits until the condition holds, and answers its value; fails with words when it does not."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last value {value!r}")
        time.sleep(every)


class Server:
    """A running server, and what it logged. Without its canary, unless it is wanted: tests compare positions of a log that is theirs."""

    def __init__(self, certificate=None, command="serve", heartbeat=1, arguments=(), descriptors=None, canary=False):
        line = [binary(), command, "--host", "127.0.0.1", "--port", "0", "--heartbeat", str(heartbeat), "--loops", "2"]
        line += ["--store", ":memory:", "--allow-host", "a", "--allow-host", "x", "--allow-host", "example.org"]
        if not canary:
            line.append("--no-canary")
        if certificate:
            line += ["--tls-port", "0", "--certificate", str(certificate[0]), "--key", str(certificate[1])]
        limit = None if descriptors is None else lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.process = subprocess.Popen(
            [*line, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=limit)
        self.log = []
        self.output = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            listening = eventually(self._listening, "the server says that it listens", seconds=20)
        except AssertionError:
            self.kill()
            raise AssertionError(f"the server did not start:\n{''.join(self.output)}") from None
        self.port = int(listening["port"])
        self.tls_port = int(listening["tls_port"]) if certificate else None

    def _read_log(self):
        for line in self.process.stderr:
            self.output.append(line)
            with contextlib.suppress(ValueError):
                self.log.append(json.loads(line))

    def _listening(self):
        if self.process.poll() is not None:
            raise AssertionError("it ended")
        return next((entry for entry in list(self.log) if entry.get("message") == "listening"), None)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def alive(self):
        return self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        if self.alive:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(5)

    def stop(self):
        """Ends the server by SIGTERM, and by SIGKILL after 10 seconds; answers its exit status."""
        if self.alive:
            self.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)
        return self.process.returncode

    def resident(self):
        """Resident memory in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def answers(self):
        """Fails unless the server takes a publication and shows it."""
        assert self.alive, f"the server ended with {self.process.returncode}:\n{''.join(self.output[-40:])}"
        with http() as client:
            answer = client.post(f"{self.url}/v1/channels/alerts.alive", content="1")
            assert answer.status_code == 201, answer.text
            info = client.get(f"{self.url}/v1/channels/alerts.alive").json()
            assert info["sequence"] >= answer.json()["sequence"]


class Endpoint:
    """Something on this host that the server asks over HTTP; `answer` gets method, path, fields and body, and says status, fields, body."""

    def __init__(self, answer, context=None, port=0):
        self.asked = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler):
                self._serve(handler, answer)

            do_POST = do_GET

            def log_message(handler, *_):
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.listener.daemon_threads = True
        if context:
            self.listener.socket = context.wrap_socket(self.listener.socket, server_side=True)
        self.port = self.listener.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def _serve(self, handler, answer):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.asked.append((handler.command, handler.path, dict(handler.headers), body))
        status, fields, content = answer(*self.asked[-1])
        with contextlib.suppress(OSError):
            handler.send_response(status)
            for name, value in {**fields, "Content-Length": str(len(content))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()
        self.thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def http(version="1.1", **options):
    """A client of httpx; version "2" speaks HTTP/2 on a plain port by prior knowledge, and by ALPN on a TLS port."""
    options.setdefault("timeout", 15)
    return httpx.Client(http1=version != "2", http2=version == "2", verify=trusting_context(), trust_env=False, **options)


def async_http(version="1.1", **options):
    options.setdefault("timeout", 15)
    return httpx.AsyncClient(http1=version != "2", http2=version == "2", verify=trusting_context(), trust_env=False, **options)


def publish(server, channel, data, **items):
    """Publishes one JSON payload, and answers what the server said."""
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}", params=items, content=json.dumps(data))
    assert answer.status_code == 201, answer.text
    return answer.json()


def publish_many(server, items):
    """Publishes a list of (channel, data) as batches."""
    items = list(items)
    results = []
    with http() as client:
        for start in range(0, len(items), 1000):
            batch = [{"channel": channel, "data": data} for channel, data in items[start:start + 1000]]
            answer = client.post(f"{server.url}/v1/publish", json=batch)
            assert answer.status_code == 201, answer.text
            results += answer.json()["results"]
    return results


def epoch(position):
    return position.split(".")[0]


def epochless(value):
    """The same without the epochs of the positions in it: they are other ones after a restart, and stand for the same."""
    return json.loads(re.sub(r'"[0-9a-f]{12}\.', '"', json.dumps(value)))


def query(channels, **items):
    channels = [channels] if isinstance(channels, str) else channels
    pairs = [("channel", channel) for channel in channels]
    return urllib.parse.urlencode(pairs + [(name, value) for name, value in items.items() if value is not None])


def assert_problem(answer, status, problem):
    """The answer is the problem that section 6 of the protocol names."""
    text = getattr(answer, "text", None)
    assert answer.status_code == status, f"expected {status} {problem}, got {answer.status_code}: {text}"
    kind = answer.headers.get("content-type", "")
    assert kind.split(";")[0].strip() == "application/problem+json", f"content type {kind!r}: {text}"
    body = json.loads(text)
    assert body["type"] == f"/problems/{problem}", body
    assert body["status"] == status, body
    assert isinstance(body["title"], str) and body["title"], body
    assert isinstance(body["detail"], str), body
    return body


class Promise:
    """Checks, per channel, that nothing is missing silently, twice or out of order."""

    def __init__(self, previous=None):
        self.previous = dict(previous or {})
        self.covered = {}
        self.count = 0
        self.skipped = 0
        self.gaps = []

    def see(self, message):
        if message["type"] == "gap":
            self.gaps.append(message)
            if message["reason"] == "epoch":
                self.previous.clear()
            else:
                self.covered[message["channel"]] = message["to"]
            return
        assert message["type"] == "notification", message
        channel, sequence, skipped = message["channel"], message["sequence"], message.get("skipped", 0)
        expected = self.previous.get(channel, 0) + 1 + skipped
        explained = sequence == expected or self.covered.get(channel) == sequence - 1 - skipped
        assert explained, f"{channel}: {sequence} after {self.previous.get(channel, 0)} with skipped {skipped} and no gap"
        self.previous[channel] = sequence
        self.skipped += skipped
        self.count += 1


# Clients on each transport, for the tests that go from one to the next.

WAYS = {
    "websocket": ("websocket", "1.1", False),
    "websocket-tls": ("websocket", "1.1", True),
    "sse": ("sse", "1.1", False),
    "sse-http2": ("sse", "2", False),
    "sse-http2-tls": ("sse", "2", True),
    "long-poll": ("long-poll", "1.1", False),
    "long-poll-http2": ("long-poll", "2", False),
    "long-poll-http2-tls": ("long-poll", "2", True),
}


class Cutter:
    """A proxy between a client and the server, whose connections can be cut without a goodbye."""

    def __init__(self, port):
        self.target = port
        self.writers = set()
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers |= {writer, other_writer}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, other_writer), self._copy(other_reader, writer))

    @staticmethod
    async def _copy(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self):
        """Resets all connections, on both sides."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.writers.clear()


async def follow(way, port, channels, after):
    """Yields notifications and gaps as they come, over the way named; goes on until it is closed."""
    transport, version, tls = WAYS[way]
    scheme = "s" if tls else ""
    where = f"127.0.0.1:{port}/v1/subscribe?"
    if transport == "websocket":
        context = trusting_context() if tls else None
        async with websockets.asyncio.client.connect(
                f"ws{scheme}://{where}{query(channels, after=after)}", ssl=context, proxy=None, max_size=None,
                subprotocols=["tocsin.v1"], close_timeout=1) as socket_:
            async for text in socket_:
                message = json.loads(text)
                if message["type"] in ("notification", "gap"):
                    yield message
    elif transport == "sse":
        async with async_http(version) as client:
            url = f"http{scheme}://{where}{query(channels)}"
            start = {"Last-Event-ID": after} if after and after not in ("earliest", "latest") else {}
            url += "" if start else "&" + urllib.parse.urlencode({"after": after or "latest"})
            async with httpx_sse.aconnect_sse(client, "GET", url, headers=start) as source:
                assert source.response.http_version == ("HTTP/2" if version == "2" else "HTTP/1.1")
                async for event in source.aiter_sse():
                    if event.event in ("message", "gap"):
                        message = event.json()
                        assert event.id == message["position"]
                        yield message
    else:
        async with async_http(version) as client:
            while True:
                answer = await client.get(
                    f"http{scheme}://{where}{query(channels, after=after)}", headers={"Prefer": "wait=5"})
                assert answer.status_code == 200, answer.text
                assert answer.http_version == ("HTTP/2" if version == "2" else "HTTP/1.1")
                body = answer.json()
                for message in body["messages"]:
                    yield message
                after = body["position"]


@contextlib.asynccontextmanager
async def following(*arguments):
    """The same, ended well also when the connection under it was cut."""
    source = follow(*arguments)
    try:
        yield source
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(source.aclose(), 5)


def run(work, seconds=30):
    """Runs a coroutine to its end, in bounded time."""
    async def bounded():
        return await asyncio.wait_for(work, seconds)
    return asyncio.run(bounded())


# Bytes on a socket.

def connect(port, receive_buffer=None, timeout=SMALL_PATIENCE):
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(timeout)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.connect(("127.0.0.1", port))
    return raw


def read_to_end(raw, seconds=SMALL_PATIENCE):
    """Everything that comes until the peer closes; the second value tells whether it did."""
    deadline = time.monotonic() + seconds
    data = b""
    while True:
        raw.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = raw.recv(65536)
        except TimeoutError:
            return data, False
        except ConnectionResetError:
            return data, True
        if not piece:
            return data, True
        data += piece


class RawAnswer:
    """One HTTP/1.1 answer as it came."""

    def __init__(self, data):
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.version, _, rest = lines[0].partition(" ")
        self.status_code = int(rest[:3]) if rest[:3].isdigit() else 0
        self.headers = httpx.Headers([tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]])
        self.content = body
        self.text = body.decode("utf-8", "replace")


def exchange(port, data, seconds=SMALL_PATIENCE):
    """Sends bytes, reads until the server closes; answers the first answer (or None) and whether it closed."""
    with connect(port) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(data)
        received, closed = read_to_end(raw, seconds)
    return (RawAnswer(received) if received else None), closed


class RawWebSocket:
    """A WebSocket client that does as it is told, also what is wrong, and answers nothing by itself."""

    def __init__(self, port, path="/v1/subscribe", receive_buffer=None):
        self.raw = connect(port, receive_buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        self.raw.sendall((f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self._receive()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def _receive(self):
        piece = self.raw.recv(65536)
        if not piece:
            raise EOFError("the server closed")
        return piece

    def send(self, opcode, payload=b"", final=True, masked=True, reserved=0):
        if isinstance(payload, str):
            payload = payload.encode()
        first = (0x80 if final else 0) | reserved << 4 | opcode
        size, mask_bit = len(payload), 0x80 if masked else 0
        if size < 126:
            head = struct.pack("!BB", first, mask_bit | size)
        elif size < 65536:
            head = struct.pack("!BBH", first, mask_bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, mask_bit | 127, size)
        if masked:
            mask = os.urandom(4)
            repeated = (mask * (size // 4 + 1))[:size]
            payload = mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.raw.sendall(head + payload)

    def _take(self, count):
        while len(self.data) < count:
            self.data += self._receive()
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def frame(self, timeout=SMALL_PATIENCE):
        """The next frame: opcode and payload."""
        self.raw.settimeout(timeout)
        first, second = self._take(2)
        assert first & 0x80, "the server fragments nothing"
        assert not second & 0x80, "a server does not mask"
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self._take(2))
        elif size == 127:
            size, = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(size)

    def close_code(self, seconds=SMALL_PATIENCE):
        """Reads on to the close frame; answers its code."""
        deadline = time.monotonic() + seconds
        while True:
            opcode, payload = self.frame(max(0.01, deadline - time.monotonic()))
            if opcode == 8:
                return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def texts(self, count, seconds=SMALL_PATIENCE):
        """The next text messages, as objects."""
        deadline = time.monotonic() + seconds
        found = []
        while len(found) < count:
            opcode, payload = self.frame(max(0.01, deadline - time.monotonic()))
            if opcode == 1:
                found.append(json.loads(payload))
        return found


def event_stream(port, path, receive_buffer=None):
    """A raw HTTP/1.1 event stream: answers the socket after the request was sent."""
    raw = connect(port, receive_buffer)
    raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    return raw


class RawHTTP2:
    """An HTTP/2 client by prior knowledge on the package h2, for what the others do not do: to reset, and to stop sending."""

    def __init__(self, port):
        self.raw = connect(port)
        self.state = h2.connection.H2Connection()
        self.state.initiate_connection()
        self.next_stream = 1
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def flush(self):
        self.raw.sendall(self.state.data_to_send())

    def request(self, method, path, *headers, end=True):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost"), *headers]
        self.state.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def reset(self, stream):
        self.state.reset_stream(stream, 8)
        self.flush()

    def events(self, seconds=SMALL_PATIENCE):
        """Events as they come, until the server closes or the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            self.raw.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.raw.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return
            if not data:
                return
            for event in self.state.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                yield event
            with contextlib.suppress(OSError):
                self.flush()

    def upload(self, stream, size):
        """Sends so many bytes, as far as the server lets it, until an answer is complete: its status, type and text."""
        headers, body, left, events = {}, b"", size, self.events()
        while True:
            # The library may have read the answer and the end of the stream while an earlier event is still looked at.
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                while left and not headers and (window := min(self.state.local_flow_control_window(stream), 16384, left)):
                    self.state.send_data(stream, b"x" * window)
                    left -= window
                    self.flush()
            event = next(events, None)
            if event is None:
                raise AssertionError(f"no complete answer; {left} bytes were not sent")
            if isinstance(event, h2.events.ResponseReceived):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return int(headers[":status"]), headers["content-type"], body.decode()
