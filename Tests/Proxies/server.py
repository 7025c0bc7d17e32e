"""The server as a process, on a port that stays the same when it is started again, and what publishes to it."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
from pathlib import Path

import wire

ROOT = Path(__file__).resolve().parents[2]
# Below the ports that systems give to clients, so that no connection takes the port of a server that is away for a moment.
PORTS = range(20000, 32000)
START_SECONDS = 20


def free_port():
    """A port nobody listens on, and that no client is given."""
    for _ in range(200):
        port = random.choice(PORTS)
        with socket.socket() as raw, contextlib.suppress(OSError):
            raw.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def program(name, variable):
    """A program of the project: the one that the variable names, or the one that was built."""
    named = os.environ.get(variable)
    if named:
        if not os.access(named, os.X_OK):
            raise RuntimeError(f"{variable} is {named!r}, which is not a program")
        return str(Path(named).resolve())
    for configuration in ("release", "debug"):
        candidate = ROOT / ".build" / configuration / name
        if os.access(candidate, os.X_OK):
            return str(candidate)
    return None


async def listening(port, alive, what):
    """Waits until somebody listens on the port."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while alive():
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise RuntimeError(f"{what} did not start to listen on {port}")


async def end(process, seconds=10):
    """Ends a process by SIGTERM, and by SIGKILL when it stays."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Server:
    """A server with a log in a file, so that it can be ended and started again."""

    def __init__(self, binary, folder, heartbeat=None, drain=2):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.line = [binary, "serve", "--host", "127.0.0.1", "--port", str(self.port), "--loops", "2",
                     "--drain", str(drain), "--store", str(self.folder / "log.sqlite"), "--durability", "memory",
                     "--allow-host", "*", "--allow-origin", "*"]
        if heartbeat:
            self.line += ["--heartbeat", str(heartbeat)]
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def route(self):
        return wire.Route(self.url)

    async def start(self):
        with open(self.folder / "server.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=log)
        await listening(self.port, lambda: self.process.returncode is None, "the server")
        return self

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def stop(self):
        await end(self.process)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def log(self):
        return (self.folder / "server.log").read_text(errors="replace")

    async def publish(self, channel, data, seconds=30):
        """Publishes once, however often it has to be tried; answers the sequence."""
        body, key = json.dumps(data).encode(), f"{channel}-{random.getrandbits(64):x}"
        fields = {"Content-Type": "application/json", "Idempotency-Key": key, "Connection": "close"}
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(wire.WireFault):
                    status, _, content = await wire.fetch(self.route, "POST", f"/v1/channels/{channel}", fields, body)
                    if status in (200, 201):
                        return json.loads(content)["sequence"]
                    if status != 503:
                        raise RuntimeError(f"publishing was answered with {status}: {content[:200]!r}")
                await asyncio.sleep(0.05)


class Publisher:
    """Publishes the numbers from `first` on to one channel, in order, spread over some seconds; knows when each was published."""

    def __init__(self, server, channel, count, seconds, first=1, pauses=()):
        self.server, self.channel = server, channel
        self.count, self.seconds, self.first = count, seconds, first
        self.pauses = dict(pauses)
        self.at = {}

    async def run(self):
        """`pauses` holds, by number, the seconds for which nothing is published before that message."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(self.first, self.first + self.count):
            due += self.seconds / self.count + self.pauses.get(number, 0)
            await asyncio.sleep(max(0, due - loop.time()))
            self.at[number] = wire.milliseconds()
            sequence = await self.server.publish(self.channel, {"n": number})
            if sequence != number:
                raise RuntimeError(f"message {number} of {self.channel} got the sequence {sequence}")
