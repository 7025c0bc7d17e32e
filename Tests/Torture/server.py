"""The server as a process of its own: started, killed, started again on the same store."""

import asyncio
import contextlib
import ctypes
import signal
import socket
import subprocess
import time
import shlex
from pathlib import Path

from wire import HOST

START_SECONDS = 30


class Failure(Exception):
    """The run cannot go on."""


def free_port(chance):
    """Below the range of outgoing connections: while the server is down, a client's own connection must not take its port."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = chance.randrange(min(10000, lowest // 2), lowest)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((HOST, port))
            return port
    raise Failure("no free port")


# The server

def die_with_parent():
    """In the child: it gets SIGKILL (9) when this process ends, however that happens. 1 is PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    def __init__(self, run):
        self.run, self.process = run, None
        a = run.arguments
        self.command = [a.binary, "serve", "--port", str(run.port), "--drain", "0", "--keep", "*=messages:1000000,bytes:1GiB"]
        if not a.memory:
            self.command += ["--store", str(run.directory / "log.sqlite"), "--durability", "disk"]
        self.command += shlex.split(a.serve_arguments)
        self.log_path = run.directory / "server.log"
        self.recoveries = []
        self.stopping = False

    def start(self):
        with open(self.log_path, "a") as log:
            log.write(f"=== start {self.run.generation}: {shlex.join(self.command)}\n")
            log.flush()
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=die_with_parent)
        self.started = time.monotonic()
        self.stopping = False
        self.run.generation += 1
        self.run.event("start", self.process.pid)

    def end_of_log(self):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])

    def must_run(self):
        status = self.process.poll()
        if status is not None and not self.stopping:
            raise Failure(f"the server ended by itself with status {status}:\n{self.end_of_log()}")

    def probe(self):
        """Blocking, in a thread: the event loop is busy with subscribers that come back, and would measure itself."""
        deadline = self.started + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.run.port), timeout=5) as sock:
                sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if sock.recv(64).startswith(b"HTTP/1.1 200"):
                    return time.monotonic() - self.started
            time.sleep(0.002)
        return None

    async def ready(self):
        seconds = await asyncio.to_thread(self.probe)
        self.must_run()
        if seconds is None:
            raise Failure(f"not ready after {START_SECONDS} s:\n{self.end_of_log()}")
        self.recoveries.append(seconds)
        self.run.event("ready", round(seconds, 4))

    async def kill(self):
        self.must_run()
        self.stopping = True
        self.process.kill()
        self.run.counts["kills"] += 1
        self.run.event("kill", self.process.pid)
        await asyncio.to_thread(self.process.wait, 30)

    async def stop(self):
        """SIGTERM, as an operator does it."""
        self.must_run()
        self.stopping = True
        self.process.terminate()
        try:
            status = await asyncio.to_thread(self.process.wait, 20)
        except subprocess.TimeoutExpired:
            self.run.problem("stop", "SIGTERM did not end the server in 20 s")
            return self.process.kill()
        if status != 0:
            self.run.problem("stop", f"status {status} after SIGTERM:\n{self.end_of_log()}")

    def finish(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
