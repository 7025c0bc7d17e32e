"""The clients of all kinds, as the harness sees them: something that is started, reports events, and is stopped.

    {"event":"start","at":MS}                                                              it begins to connect (if it can tell)
    {"event":"status","at":MS,"state":"live","transport":"websocket","text":"..."}         its state has changed
    {"event":"message","at":MS,"sequence":17,"n":17}                                       a message came; n is the number in its data
    {"event":"control","at":MS,"type":"gap"}                                               something else came
    {"event":"end",...}                                                                    it has ended by itself

A client is a program that prints such lines, or an adapter makes them of what it prints. `at` is put in where it is missing.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import sys
from pathlib import Path

import wire
from server import ROOT, end, program

HERE = Path(__file__).resolve().parent
LIBRARY = ROOT / "Sources" / "tocsin" / "Browser" / "tocsin.js"
LINE_BYTES_MAX = 1024 * 1024
EVENTS_MAX = 100_000

# What clients call the transports, by the names of the table.
NAMES = {"websockets": "websocket", "event-stream": "sse", "eventsource": "sse", "server-sent events": "sse", "longpoll": "long-poll",
         "long polling": "long-poll", "long-polling": "long-poll", "shortpoll": "short-poll", "polling": "short-poll"}


def transport_name(name):
    lowered = (name or "").lower()
    return NAMES.get(lowered, lowered) or None


class Client:
    """What all kinds have in common: the events so far, and waiting for more."""

    kind = ""
    knows_forward_proxies = False

    def __init__(self, tools, route, channel, state=None, transports=None, index=0, **options):
        self.tools, self.route, self.channel = tools, route, channel
        self.state, self.transports, self.options = state, transports, options
        self.name = f"{self.kind}-{index}" if index else self.kind
        self.events = []
        self.changed = asyncio.Event()
        self.began = None

    async def prepare(self):
        """Does what needs no subscription yet, as loading a page. It may be called on a way without faults."""

    async def start(self):
        raise NotImplementedError

    async def stop(self):
        raise NotImplementedError

    def take(self, event):
        """Notes an event, with its time."""
        if len(self.events) >= EVENTS_MAX:
            return
        event.setdefault("at", wire.milliseconds())
        if event["event"] == "start":
            self.began = event["at"]
        if event["event"] == "status":
            event["transport"] = transport_name(event.get("transport"))
        self.events.append(event)
        self.changed.set()

    def of(self, kind):
        return [event for event in self.events if event["event"] == kind]

    @property
    def messages(self):
        return self.of("message")

    @property
    def live(self):
        """The statuses that say over what it is live."""
        return [event for event in self.of("status") if event.get("state") in ("live", "polling") and event["transport"]]

    @property
    def transport(self):
        return self.live[-1]["transport"] if self.live else None

    def live_since(self, transport, after=0):
        """When it was first told to be live over a transport, after a moment; None if it was not."""
        return next((event["at"] for event in self.live if event["transport"] == transport and event["at"] >= after), None)

    @property
    def settled_at(self):
        """Since when it has stayed on the transport that it is on."""
        others = [event["at"] for event in self.live if event["transport"] != self.transport]
        return self.live_since(self.transport, max(others, default=0))

    async def until(self, condition, seconds):
        """Waits until the condition holds of this client; answers whether it does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self.changed.clear()
                    await self.changed.wait()
        return bool(condition(self))

    async def has(self, number, seconds):
        """Waits for the message of that number."""
        return await self.until(lambda client: any(event["n"] == number for event in reversed(client.messages)), seconds)


class ProgramClient(Client):
    """A client that is a program of its own."""

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def parse(self, line, is_error):
        """The event that a line of its output tells, or None."""
        if is_error:
            return None
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                return event
        return None

    async def start(self):
        self.began = wire.milliseconds()
        self.errors = []
        self.process = await asyncio.create_subprocess_exec(
            *self.command(), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX, env={**os.environ, **self.environment()})
        self.reading = [asyncio.create_task(self._read(self.process.stdout, False)),
                        asyncio.create_task(self._read(self.process.stderr, True))]
        return self

    async def _read(self, stream, is_error):
        while line := await stream.readline():
            text = line.decode(errors="replace").rstrip("\n")
            if is_error:
                self.errors = [*self.errors[-50:], text]
            if event := self.parse(text, is_error):
                self.take(event)

    async def stop(self):
        await end(self.process)
        await asyncio.gather(*self.reading, return_exceptions=True)


class CommandLine(ProgramClient):
    """`tocsin subscribe`: messages on its output, its state on its error output."""

    kind = "cli"

    def command(self):
        transport = self.transports or "auto"
        return [self.tools.binary, "subscribe", "--url", self.route.url, self.channel, "--after", "earliest", "--transport", transport,
                "--status", "json"]

    def environment(self):
        return {"XDG_STATE_HOME": str(self.state), "XDG_CACHE_HOME": str(self.state)} if self.state else {}

    def parse(self, line, is_error):
        if is_error:
            return json.loads(line) if line.startswith("{") else None
        message = json.loads(line)
        if message.get("type") == "notification":
            return {"event": "message", "sequence": message["sequence"], "skipped": message.get("skipped", 0), "n": message["data"]["n"]}
        return {"event": "control", "type": message.get("type"), "reason": message.get("reason")}


class Swift(ProgramClient):
    """The Swift library, in a program for this harness."""

    kind = "swift"

    def command(self):
        found = program("ProxyClient", "TOCSIN_PROXY_CLIENT")
        if not found:
            raise RuntimeError("there is no ProxyClient: build it (swift build --product ProxyClient) or name it in TOCSIN_PROXY_CLIENT")
        line = [found, self.route.url, self.channel, "--after", "earliest"]
        line += ["--memory", str(Path(self.state) / "paths.json")] if self.state else []
        return [*line, "--transports", self.transports] if self.transports else line


class Node(ProgramClient):
    """The library of JavaScript in Node."""

    kind = "node"

    def command(self):
        options = dict(self.options)
        if self.transports:
            options["transports"] = [self.transports]
        if self.state:
            options["state"] = str(Path(self.state) / "storage.json")
        return ["node", str(HERE / "client.mjs"), str(self.tools.library), self.route.url, self.channel, json.dumps(options)]

    def environment(self):
        return {"NODE_PATH": "/usr/share/nodejs"}


class Python(ProgramClient):
    """A small client of the harness's own, by which it is tested itself."""

    kind = "python"
    knows_forward_proxies = True

    def command(self):
        options = {"transports": self.transports, "forward": self.route.forward, **self.options}
        return [sys.executable, str(HERE / "ladder.py"), self.route.url, self.channel, json.dumps(options)]


class Tab(Client):
    """The library of JavaScript in a tab of Chromium, in a page that came from the server by the same way."""

    kind = "chromium"
    knows_forward_proxies = True

    page = None

    async def prepare(self):
        browser = await self.tools.browser()
        # `state` is the context of the browser here: what remembers.
        context = self.state or await browser.context(self.route.forward)
        self.page = await browser.page(context, self.take)
        await self.page.open(self.route.url + "/healthz")
        library = "/tocsin.js" if self.tools.library == LIBRARY else as_module(self.tools.library)
        await self.page.evaluate(f"""(async () => {{
            const {{follow}} = await import({json.dumps(as_module(HERE / "follow.mjs"))})
            const library = await import({json.dumps(library)})
            const report = event => reportToHarness(JSON.stringify(event))
            window.begin = (...options) => {{ window.followed = follow(library.Tocsin ?? library.default, ...options, report) }}
        }})()""")

    async def start(self):
        if self.page is None:
            await self.prepare()
        options = dict(self.options)
        if self.transports:
            options["transports"] = [self.transports]
        self.began = wire.milliseconds()
        await self.page.evaluate(f"begin({json.dumps(self.route.url)}, {json.dumps(self.channel)}, {json.dumps(options)})")
        return self

    @property
    def errors(self):
        return self.page.faults

    async def stop(self):
        if self.page:
            await self.page.close()


def as_module(path):
    """A file as a URL from which a page can import it."""
    return "data:text/javascript;base64," + base64.b64encode(Path(path).read_bytes()).decode()


KINDS = {client.kind: client for client in (CommandLine, Node, Tab, Swift, Python)}
EVERY = ["cli", "node", "chromium", "swift"]


class Tools:
    """What clients are made of: the server's program, the library, and one browser for all."""

    def __init__(self, binary, folder, library=LIBRARY):
        self.binary, self.folder, self.library = binary, Path(folder), Path(library).resolve()
        self.chromium = None
        self.count = 0
        self.lock = asyncio.Lock()

    async def browser(self):
        from chromium import Chromium
        async with self.lock:
            if self.chromium is None:
                self.chromium = await Chromium(self.folder / "chromium").start()
        return self.chromium

    async def memory(self, kind, forward=None):
        """Where a client of that kind keeps what it remembers: a new folder, or a context of the browser."""
        if kind == "chromium":
            return await (await self.browser()).context(forward)
        self.count += 1
        path = self.folder / f"state-{self.count}"
        path.mkdir()
        return path

    async def stop(self):
        if self.chromium:
            await self.chromium.stop()
