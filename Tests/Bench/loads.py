"""Servers as processes and the load generator, `tocsin bench`, on processors of their own: what bench.py and peers.py have in common."""

import contextlib
import json
import os
import pathlib
import platform
import queue
import signal
import socket
import ssl
import subprocess
import time

FOLDER = pathlib.Path(__file__).resolve().parent
PROFILES = FOLDER / "profiles"
START_SECONDS = 20
# A run is ended when it takes so much longer than its messages.
RUN_SECONDS_BESIDES = 180


class Broken(Exception):
    """Something did not do what the measurement needs of it."""


class Processors:
    """Who runs where: interrupts tend to go to the first processor, so the server has the last, and the load generator the others."""

    def __init__(self):
        self.all = sorted(os.sched_getaffinity(0))
        self.server = {self.all[-1]}
        self.generator = set(self.all[:-1]) or self.server

    @property
    def are_shared(self):
        return self.server == self.generator


def machine():
    """What a reader of the figures has to know of the machine."""
    names = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return {"processor": names[0] if names else platform.machine(), "processors": os.cpu_count(), "kernel": platform.release(),
            "openssl": ssl.OPENSSL_VERSION}


def free_ports(count):
    """Ports that nothing listens on; asked for together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def make_certificate(folder):
    chain, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True, timeout=30)
    return chain, key


def wait_for_port(port, process, what):
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise Broken(f"{what} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise Broken(f"{what} does not listen")
        time.sleep(0.02)


class Logging:
    """A server's process, as `self.process`, that logs JSON; `self.lines` gets it from `_read`, on a thread."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _read(self, stream):
        for line in stream:
            self.lines.put(line)
        self.lines.put(None)

    def wait(self, key, value, timeout):
        """The next line whose member `key` is `value`."""
        deadline = time.monotonic() + timeout
        last = ""
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise Broken(f"{self.name}: no {key} {value} in {timeout:.0f} s; its last line: {last}") from None
            if line is None:
                raise Broken(f"{self.name} ended with status {self.process.wait()} before {key} {value}; its last line: {last}")
            last = line.decode(errors="replace").strip()
            try:
                members = json.loads(last)
            except ValueError:
                continue
            if members.get(key) == value:
                return members

    def cpu_nanoseconds(self):
        """By thread: what the scheduler gave it. Exact, where utime and stime count in hundredths of a second."""
        spent = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                spent[task.name] = int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                continue  # a thread that has just ended
        return spent

    def anonymous_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
        raise Broken("smaps_rollup has no line Anonymous")


class Server:
    """A server as a process, on the processors of `cpus`; the ports it listens on by (is HTTP/2, is TLS)."""

    def __init__(self, command, ports, cpus, log):
        self.ports = ports
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        try:
            wait_for_port(ports[False, False], self.process, command[0])
        except Broken as fault:
            self.stop()
            raise Broken(f"{fault}: {pathlib.Path(log).read_text(errors='replace')[-2000:]}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def url(self, is_http2, is_tls):
        return f"{'https' if is_tls else 'http'}://127.0.0.1:{self.ports[is_http2, is_tls]}"

    @property
    def processes(self):
        """Those that serve."""
        return [self.process.pid]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Tocsin(Server):
    """With one event loop, and the log in memory."""

    profile = PROFILES / "tocsin.json"

    def __init__(self, binary, folder, certificate, cpus):
        plain, tls = free_ports(2)
        command = [
            binary, "serve", "--port", plain, "--tls-port", tls, "--certificate", certificate[0], "--key", certificate[1],
            "--loops", 1, "--store", ":memory:", "--drain", 0,
        ]
        ports = {(is_http2, is_tls): tls if is_tls else plain for is_http2 in (False, True) for is_tls in (False, True)}
        super().__init__(command, ports, cpus, folder / "tocsin.log")


def bench(binary, server, cpus, *, transport, is_tls=False, rate=20, messages=0, **options):
    """One run of the load generator on `cpus`; answers its report. Each of `options` is an option of `tocsin bench`, or a flag."""
    command = [
        binary, "bench", "--url", server.url(transport == "sse-h2", is_tls), "--publish-url", server.url(False, False),
        "--profile", server.profile, "--transport", transport, "--rate", rate, "--messages", messages, "--json", "-",
    ]
    for process in server.processes:
        command += ["--pid", process]
    for name, value in options.items():
        if value is not False:
            command += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=RUN_SECONDS_BESIDES + 2 * messages / rate,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    except subprocess.TimeoutExpired:
        raise Broken(f"{transport}: the load generator did not end") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Broken(f"{transport}: the load generator ended with {done.returncode}: {done.stderr[-2000:]}") from None


def what_went_wrong(report):
    """In words, why a run was not whole; empty when it was."""
    if report.get("whole", True):
        return ""
    names = ("lost", "repeated", "reordered", "foreign", "subscribers_ended")
    counts = ", ".join(f"{report[name]} {name}" for name in names if report[name])
    return f"{counts} of {report['expected']} {report.get('first_end', '')}".strip()
