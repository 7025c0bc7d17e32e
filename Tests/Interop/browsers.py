"""Real browsers, headless, as the interop tests drive them: Chromium over the DevTools protocol, Firefox over Marionette."""

import contextlib
import http.server
import itertools
import json
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import websockets.sync.client

from support import eventually
from support import http as http_client

numbers = itertools.count(1)


class Browser:
    """What both have: a process, one tab, and scripts in it."""

    def __init__(self, line):
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.output = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.stack = contextlib.ExitStack()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _read(self):
        for line in self.process.stderr:
            self.output.append(line)

    def _begin(self):
        """Connects to the browser, which has just been started."""
        raise NotImplementedError

    def _end(self):
        """Asks the browser to quit."""
        raise NotImplementedError

    def open(self, url):
        """Loads a page, so that what runs next has its origin."""
        raise NotImplementedError

    def run(self, function, *values):
        """Calls a function of JavaScript, given as source, with values of JSON; answers what it, or its promise, comes to."""
        raise NotImplementedError

    def close(self):
        with contextlib.suppress(Exception):
            self._end()
        self.stack.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stderr.close()


class Chromium(Browser):
    """Chromium, which takes any certificate."""

    def __init__(self, folder):
        self.number, self.events = 0, []
        super().__init__(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-proxy-server", "--disable-extensions", "--disable-background-networking", "--ignore-certificate-errors",
             "--disable-features=BackForwardCache",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"])

    def _begin(self):
        port = eventually(self._port, "Chromium says where its DevTools are", 30)
        with http_client() as client:
            tab = eventually(lambda: next((tab for tab in client.get(f"http://127.0.0.1:{port}/json/list").json()
                                           if tab["type"] == "page"), None), "Chromium has a tab", 20)
        self.socket = self.stack.enter_context(websockets.sync.client.connect(
            tab["webSocketDebuggerUrl"], proxy=None, max_size=None, ping_interval=None, close_timeout=3))
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def _port(self):
        assert self.process.poll() is None, "".join(self.output)
        return next((found[1] for line in list(self.output) if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line))), None)

    def _end(self):
        self.call("Browser.close")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        deadline = time.monotonic() + 30
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        eventually(lambda: self.evaluate("location.href") == url and self.evaluate("document.readyState") == "complete",
                   f"Chromium shows {url}", 20)

    def run(self, function, *values):
        return self.evaluate(f"({function})({', '.join(json.dumps(value) for value in values)})")

    def told(self, method, **wanted):
        """What the DevTools have told of that kind since the page was opened."""
        self.call("Runtime.evaluate", expression="0")
        found = [event["params"] for event in self.events if event.get("method") == method]
        return [one for one in found if all(one.get(name) == value for name, value in wanted.items())]


class Firefox(Browser):
    """Firefox, which takes any certificate."""

    preferences = {
        "marionette.port": 0,
        "network.proxy.type": 0,
        "network.dns.disableIPv6": True,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "app.update.disabledForTesting": True,
        "browser.startup.page": 0,
        "browser.shell.checkDefaultBrowser": False,
        "toolkit.telemetry.server": "",
    }

    def __init__(self, folder):
        self.number = 0
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in self.preferences.items()]
        (self.folder / "user.js").write_text("".join(lines))
        super().__init__(["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", str(self.folder), "about:blank"])

    def _begin(self):
        port = eventually(self._port, "Firefox says where its Marionette is", 40)
        self.socket = self.stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        self.data = b""
        assert self._receive(10)["marionetteProtocol"] == 3
        self.call("WebDriver:NewSession", acceptInsecureCerts=True)
        self.call("WebDriver:SetTimeouts", script=25_000, pageLoad=25_000)

    def _port(self):
        assert self.process.poll() is None, "".join(self.output)
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "MarionetteActivePort").read_text())
        return None

    def _end(self):
        self.call("Marionette:Quit", flags=["eForceQuit"])

    def _receive(self, seconds):
        """One message: its length in bytes, a colon, and JSON."""
        deadline = time.monotonic() + seconds
        while True:
            size, colon, rest = self.data.partition(b":")
            if colon and len(rest) >= int(size):
                self.data = rest[int(size):]
                return json.loads(rest[:int(size)])
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError("Firefox closed its Marionette")
            self.data += piece

    def call(self, command, **parameters):
        self.number += 1
        message = json.dumps([0, self.number, command, parameters]).encode()
        self.socket.settimeout(10)
        self.socket.sendall(f"{len(message)}:".encode() + message)
        kind, number, fault, result = self._receive(30)
        assert (kind, number) == (1, self.number)
        assert fault is None, f"{command}: {fault}"
        return result

    def open(self, url):
        self.call("WebDriver:Navigate", url=url)

    def run(self, function, *values):
        script = f"""const done = arguments[arguments.length - 1], values = Array.prototype.slice.call(arguments, 0, -1)
            Promise.resolve().then(() => ({function})(...values)).then(value => done({{value}}), fault => done({{fault: String(fault)}}))"""
        answer = self.call("WebDriver:ExecuteAsyncScript", script=script, args=list(values), sandbox=None)["value"]
        assert "fault" not in answer, answer
        return answer.get("value")


# What runs in a page. `followed` holds the sources and sockets that a test has opened there.

SOURCE = """(name, url, names, credentials) => {
    const source = new EventSource(url, {withCredentials: credentials})
    const state = {source, url, got: [], control: [], opened: 0, errors: 0}
    const take = list => event => {
        if (event instanceof MessageEvent) {
            list.push({type: event.type, data: event.data, id: event.lastEventId, origin: event.origin})
        }
    }
    for (const each of names) source.addEventListener(each, take(state.got))
    for (const each of ["hello", "going-away", "snapshot", "gap"]) source.addEventListener(each, take(state.control))
    source.addEventListener("open", event => { if (!(event instanceof MessageEvent)) state.opened += 1 })
    source.addEventListener("error", event => { if (!(event instanceof MessageEvent)) state.errors += 1 })
    window.followed ??= {}
    window.followed[name] = state
}"""

SOURCE_STATE = """name => {
    const {source, got, control, opened, errors} = window.followed[name]
    return {count: got.length, control, opened, errors, ready: source.readyState}
}"""

SOCKET = """(name, url, protocols) => {
    const socket = new WebSocket(url, protocols)
    const state = {socket, got: [], opened: false, errors: 0, closed: null}
    socket.binaryType = "arraybuffer"
    socket.onopen = () => { state.opened = true }
    socket.onerror = () => { state.errors += 1 }
    socket.onmessage = event => state.got.push(typeof event.data === "string" ? event.data : Array.from(new Uint8Array(event.data)))
    socket.onclose = event => { state.closed = {code: event.code, reason: event.reason, clean: event.wasClean} }
    window.followed ??= {}
    window.followed[name] = state
}"""

SOCKET_STATE = """name => {
    const {socket, got, opened, errors, closed} = window.followed[name]
    return {count: got.length, opened, errors, closed, ready: socket.readyState, protocol: socket.protocol, extensions: socket.extensions}
}"""

GOT = "name => window.followed[name].got"


class Source:
    """An EventSource in a page, and what came: events of the names asked for, and apart from them those of the protocol."""

    def __init__(self, browser, url, names=("message",), credentials=False):
        self.browser, self.name = browser, f"source-{next(numbers)}"
        browser.run(SOURCE, self.name, url, list(names), credentials)

    def state(self):
        return self.browser.run(SOURCE_STATE, self.name)

    def until(self, condition, what, seconds=15):
        return eventually(lambda: condition(state := self.state()) and state, f"the EventSource {what}", seconds)

    def begun(self):
        """Waits for hello; answers it."""
        return json.loads(self.until(lambda state: state["control"], "has its hello")["control"][0]["data"])

    def events(self, count):
        """Waits for so many events; answers all that came."""
        self.until(lambda state: state["count"] >= count, f"has {count} events")
        return self.browser.run(GOT, self.name)

    def close(self):
        self.browser.run("name => window.followed[name].source.close()", self.name)


class Socket:
    """A WebSocket in a page, and what came: texts as strings, binary messages as lists of bytes."""

    def __init__(self, browser, url, protocols=("tocsin.v1",)):
        self.browser, self.name = browser, f"socket-{next(numbers)}"
        browser.run(SOCKET, self.name, url.replace("http", "ws", 1), list(protocols))

    def state(self):
        return self.browser.run(SOCKET_STATE, self.name)

    def until(self, condition, what, seconds=15):
        return eventually(lambda: condition(state := self.state()) and state, f"the WebSocket {what}", seconds)

    def opened(self):
        """Waits until it is open, or has failed to; answers its state."""
        return self.until(lambda state: state["opened"] or state["closed"], "is open")

    def messages(self, count):
        """Waits for so many messages; answers all that came."""
        self.until(lambda state: state["count"] >= count, f"has {count} messages")
        return self.browser.run(GOT, self.name)

    def objects(self, count):
        return [json.loads(text) for text in self.messages(count)]

    def send(self, *texts):
        self.browser.run("(name, texts) => texts.forEach(text => window.followed[name].socket.send(text))", self.name, list(texts))

    def send_bytes(self, *messages):
        self.browser.run("(name, messages) => messages.forEach(bytes => window.followed[name].socket.send(new Uint8Array(bytes)))",
                         self.name, [list(message) for message in messages])

    def close(self, *arguments):
        self.browser.run("(name, list) => window.followed[name].socket.close(...list)", self.name, list(arguments))

    def closed(self):
        """Waits for the close event; answers code, reason and whether it was clean."""
        return self.until(lambda state: state["closed"], "is closed")["closed"]


# What stands beside the server: pages of another origin, and a line that can be cut.

class Pages:
    """A server of empty pages: an origin of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class Line:
    """A proxy that keeps what clients say, and whose connections can be cut. Its target can be changed, for those that come later."""

    def __init__(self, target):
        self.target = target
        self.said, self.pairs = [], []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            said = bytearray()
            with self.lock:
                self.said.append(said)
                self.pairs.append((client, upstream))
            for source, sink, record in ((client, upstream, said), (upstream, client, None)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._copy, args=(source, sink, record), daemon=True).start()

    @staticmethod
    def _copy(source, sink, record):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if record is not None:
                    record += piece
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def heads(self, path):
        """The requests for a path that came over HTTP/1.1, as dictionaries of their fields in small letters."""
        found = []
        for said in list(self.said):
            for head in bytes(said).split(b"\r\n\r\n"):
                first, *fields = head.decode("latin-1").split("\r\n")
                if first.split(" ")[1:2] == [path] and not first.startswith("OPTIONS"):
                    found.append({name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)})
        return found

    def cut(self):
        """Ends all connections at once, on both sides."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for one in (each for pair in pairs for each in pair):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
        self.cut()
