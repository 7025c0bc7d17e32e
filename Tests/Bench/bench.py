#!/usr/bin/env python3
"""What a delivery and an idle subscriber cost, beside the least that they could cost.

Fan-out: so many subscribers on one channel, messages published over HTTP at a steady rate at which nothing is saturated. The processor
time of the server over that phase, per delivered message, is divided by that of `fanout floor`, a C program that only calls send() for as
many bytes. Both run on the same processor and take turns, a slice of less than a second each, with the same client program on another
processor: a machine that is slower for a while is slower for both. (After the pause in which the other had its turn, either is some tenths
of a microsecond slower than in one long run.) What stands in the table is the median of the ratios of such pairs.

Memory: the anonymous memory of the server before and after so many idle subscribers came, per subscriber. (Its resident memory also
counts pages of files, and what the sockets hold in the kernel is the same for every server.)

Times are reported, not judged: the exit status is 1 only if a message was lost or came twice, or if something did not work.
"""

import argparse
import collections
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import platform
import queue
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

FOLDER = pathlib.Path(__file__).resolve().parent
PROJECT = FOLDER.parent.parent
CHANNEL = "scores.bench"
TRANSPORTS = ("websocket", "sse")
NAMES = {"websocket": "WebSocket", "sse": "SSE, HTTP/1.1"}
SETTINGS = ("subscribers", "messages", "slices", "rate", "pairs", "payload", "pause", "idle")
RATIO_BAR = 1.15
BAR_SUBSCRIBERS = 5000
MEMORY_BARS = {"websocket": 4.0 * 1024, "sse": 4.5 * 1024}
# Above this, waiting for the processor begins to show in what is measured.
BUSY_MAX = 0.85
# Connections settle, and what opening them left to do gets done.
SETTLE_SECONDS = 0.3
DESCRIPTORS_BESIDES = 100
# Between two slices: the client has read what there is.
BREATH_SECONDS = 0.05

Slice = collections.namedtuple("Slice", ["cpu_seconds", "seconds"])


class Broken(Exception):
    """A process did not do what the benchmark needs of it."""


class Child:
    """A process that writes JSON lines, on one processor."""

    def __init__(self, command, cpu, *, lines_on_stderr=False):
        self.name = " ".join([pathlib.Path(command[0]).name, *command[1:2]])
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=subprocess.DEVNULL if lines_on_stderr else pipe, stderr=pipe if lines_on_stderr else None,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )
        self.lines = queue.Queue()
        stream = self.process.stderr if lines_on_stderr else self.process.stdout
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

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

    def tell(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def stop(self):
        """Ends its input, then asks, then kills."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        for ask in (lambda: None, self.process.terminate, self.process.kill):
            ask()
            try:
                self.process.wait(timeout=3 if ask != self.process.kill else None)
                return
            except subprocess.TimeoutExpired:
                continue


class Server(Child):
    """Tocsin."""

    def __init__(self, binary, cpu):
        super().__init__([str(binary), "serve", "--port", "0", "--loops", "1", "--store", ":memory:"], cpu, lines_on_stderr=True)
        try:
            self.port = int(self.wait("message", "listening", 20)["port"])
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        super().stop()

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


class Bench:
    def __init__(self, options, binary, fanout):
        self.options = options
        self.binary = binary
        self.fanout = fanout
        processors = sorted(os.sched_getaffinity(0))
        # Interrupts tend to go to the first one, so the server has the last.
        self.client_cpu, self.server_cpu = processors[0], processors[-1]
        self.payload = make_payload(options.payload)
        os.sched_setaffinity(0, {self.client_cpu})

    # Fan-out

    def load(self, port, transport, subscribers, messages, size=None):
        command = [
            self.fanout, "load", "--port", port, "--transport", transport, "--channel", CHANNEL, "--subscribers", subscribers,
            "--messages", messages, "--cpu", self.client_cpu, "--pause", self.options.pause,
        ]
        if size is not None:
            command += ["--bytes", size]
        return Child([str(part) for part in command], self.client_cpu)

    def result_of(self, load):
        result = load.wait("event", "result", 30)
        for fault in ("lost", "repeated", "closed", "malformed"):
            if result[fault]:
                raise Broken(f"{result['transport']}: {result[fault]} {fault} of {result['delivered'] + result['lost']}: {result}")
        return result

    def frame_bytes(self, transport):
        """The size of a notification on the wire, its mean: the numbers in it grow."""
        messages = self.messages_in_all()
        with Server(self.binary, self.server_cpu) as server, self.load(server.port, transport, 1, messages) as load:
            load.wait("event", "ready", 60)
            with Publisher(server.port, self.payload) as publisher:
                publisher.publish(messages, 1000)
            return self.result_of(load)["bytes_per_message"]

    def messages_in_all(self):
        return self.options.slices * (1 + self.options.messages)

    def tocsin_slice(self, server, publisher):
        publisher.publish(1, self.options.rate)
        start, before = time.monotonic(), server.cpu_nanoseconds()
        publisher.publish(self.options.messages, self.options.rate)
        after, seconds = server.cpu_nanoseconds(), time.monotonic() - start
        return Slice(sum(after[thread] - before.get(thread, 0) for thread in after) / 1e9, seconds)

    def floor_slice(self, floor):
        floor.tell()
        sent = floor.wait("event", "result", self.options.messages / self.options.rate + 30)
        if sent["refused"]:
            raise Broken(f"the floor's sockets were full {sent['refused']} times: lower the rate")
        return Slice(sent["cpu_seconds"], sent["seconds"])

    def slices(self, server, publisher, floor):
        """In turns of less than a second, and who comes first changes: the machine is as fast for one as for the other.

        Each turn begins with a message that is not measured, as the caches are full of what the other needs.
        """
        runs = {"tocsin": lambda: self.tocsin_slice(server, publisher), "floor": lambda: self.floor_slice(floor)}
        done = {"tocsin": [], "floor": []}
        for number in range(self.options.slices):
            for who in sorted(runs, reverse=number % 2 == 0):
                done[who].append(runs[who]())
                time.sleep(BREATH_SECONDS)
        return done

    def pair(self, transport, size):
        """Tocsin and the floor beside each other, each with its own subscribers."""
        options = self.options
        messages = self.messages_in_all()
        command = [
            self.fanout, "floor", "--port", 0, "--subscribers", options.subscribers, "--bytes", size, "--messages", options.messages,
            "--slices", options.slices, "--rate", options.rate, "--cpu", self.server_cpu,
        ]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Server(self.binary, self.server_cpu))
            floor = stack.enter_context(Child([str(part) for part in command], self.server_cpu))
            port = floor.wait("event", "listening", 10)["port"]
            load = stack.enter_context(self.load(server.port, transport, options.subscribers, messages))
            raw_load = stack.enter_context(self.load(port, "raw", options.subscribers, messages, size))
            for child in (load, raw_load, floor):
                child.wait("event", "ready", 60)
            publisher = stack.enter_context(Publisher(server.port, self.payload))
            time.sleep(SETTLE_SECONDS)
            done = self.slices(server, publisher, floor)
            results = {"tocsin": self.result_of(load), "floor": self.result_of(raw_load)}
        measured = options.subscribers * options.messages * options.slices
        return {who: figures_of(done[who], results[who], measured) for who in done}

    def fan_out(self, transports):
        sizes = {transport: self.frame_bytes(transport) for transport in transports}
        pairs = {transport: [] for transport in transports}
        for number in range(self.options.pairs):
            for transport, done in pairs.items():
                pair = self.pair(transport, round(sizes[transport]))
                pair["ratio"] = pair["tocsin"]["cpu_us"] / pair["floor"]["cpu_us"]
                done.append(pair)
                log(f"{NAMES[transport]}, pair {number + 1}: floor {pair['floor']['cpu_us']:.3f} us, "
                    f"Tocsin {pair['tocsin']['cpu_us']:.3f} us, {pair['ratio']:.3f}")
        return {transport: summary(done) for transport, done in pairs.items()}

    # Memory

    def idle(self, transport):
        with Server(self.binary, self.server_cpu) as server:
            # The first requests make what is made once.
            with Publisher(server.port, self.payload) as publisher:
                publisher.publish(1, 1000)
            time.sleep(SETTLE_SECONDS)
            before = server.anonymous_bytes()
            with self.load(server.port, transport, self.options.idle, 0) as load:
                load.wait("event", "ready", 120)
                time.sleep(2 * SETTLE_SECONDS)
                after = server.anonymous_bytes()
        each = (after - before) / self.options.idle
        log(f"{NAMES[transport]}, idle: {each:.0f} bytes each")
        return {"subscribers": self.options.idle, "bytes_each": round(each), "bar": MEMORY_BARS[transport]}


class Publisher:
    """Publishes over one connection."""

    def __init__(self, port, payload):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.connect()
        self.payload = payload

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def publish(self, count, rate):
        start = time.monotonic()
        for number in range(1, count + 1):
            time.sleep(max(0, start + number / rate - time.monotonic()))
            self.connection.request("POST", f"/v1/channels/{CHANNEL}", self.payload, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            body = answer.read()
            if answer.status != 201:
                raise Broken(f"publishing was answered {answer.status}: {body[:200]!r}")


def make_payload(size):
    """JSON of so many bytes."""
    empty = len(json.dumps({"text": ""}, separators=(",", ":")))
    return json.dumps({"text": "x" * max(0, size - empty)}, separators=(",", ":")).encode()


def figures_of(slices, result, measured):
    """Of one side of a pair."""
    cpu_seconds, seconds = sum(slice.cpu_seconds for slice in slices), sum(slice.seconds for slice in slices)
    return {
        "cpu_us": cpu_seconds * 1e6 / measured, "bytes": result["bytes_per_message"], "delivered": result["delivered"],
        "busiest": max(cpu_seconds, result["cpu_seconds"] * measured / result["delivered"]) / seconds,
    }


def summary(pairs):
    def median(who):
        return round(statistics.median(pair[who]["cpu_us"] for pair in pairs), 4)

    return {
        "ratio": round(statistics.median(pair["ratio"] for pair in pairs), 4), "bar": RATIO_BAR,
        "ratios": [round(pair["ratio"], 4) for pair in pairs], "floor_us": median("floor"), "tocsin_us": median("tocsin"),
        "bytes_on_the_wire": round(pairs[0]["tocsin"]["bytes"], 1), "delivered": sum(pair["tocsin"]["delivered"] for pair in pairs),
        "lost": 0, "repeated": 0, "busiest": round(max(pair[who]["busiest"] for pair in pairs for who in ("tocsin", "floor")), 3),
    }


def log(text):
    print(text, file=sys.stderr, flush=True)


def compile_fanout(folder):
    program = pathlib.Path(folder) / "fanout"
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(program), str(FOLDER / "fanout.c")], check=True)
    return program


def find_binary():
    named = os.environ.get("TOCSIN_BINARY")
    binary = pathlib.Path(named) if named else PROJECT / ".build" / "release" / "tocsin"
    if not os.access(binary, os.X_OK):
        raise Broken(f"no server at {binary}: build it with `swift build -c release`, or name one in TOCSIN_BINARY")
    return binary


def allow_descriptors(wanted):
    """Raises the limit for this process and those it starts; says how many subscribers it has room for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted + DESCRIPTORS_BESIDES <= most:
        return wanted
    log(f"the limit of {most} descriptors leaves room for fewer than {wanted} subscribers")
    return most - DESCRIPTORS_BESIDES


def processor_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def table(results):
    rows = [("what", "figure", "bar", "met", "")]
    for transport, figures in results["fan_out"].items():
        detail = f"floor {figures['floor_us']:.2f} us, Tocsin {figures['tocsin_us']:.2f} us, {figures['bytes_on_the_wire']:.0f} bytes"
        rows.append((f"{NAMES[transport]}: processor time per delivery", f"{figures['ratio']:.3f} x floor", f"{figures['bar']:.2f}",
                     verdict(figures["ratio"], figures["bar"], results), detail))
    for transport, figures in results["memory"].items():
        rows.append((f"{NAMES[transport]}: memory of an idle subscriber", f"{figures['bytes_each'] / 1024:.2f} KB",
                     f"{figures['bar'] / 1024:.2f} KB", verdict(figures["bytes_each"], figures["bar"], results),
                     f"{figures['subscribers']} subscribers"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in rows)


def verdict(figure, bar, results):
    """The bars are for the whole benchmark: with few subscribers the publishing itself is most of what is measured."""
    if results["settings"]["subscribers"] < BAR_SUBSCRIBERS:
        return "-"
    return "yes" if figure <= bar else "no"


def notes(bench, results):
    if bench.client_cpu == bench.server_cpu:
        yield "one processor for all: server and client took turns, the figures are not comparable with others"
    busiest = max((figures["busiest"] for figures in results["fan_out"].values()), default=0)
    if busiest > BUSY_MAX:
        yield f"a process had {busiest:.0%} of its processor: lower --rate"


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a short form that shows that all works; its figures mean little")
    parser.add_argument("--subscribers", type=int, help="of the fan-out (5000; quick 200)")
    parser.add_argument("--messages", type=int, help="measured in a slice of it (8; quick 10)")
    parser.add_argument("--slices", type=int, help="of each of Tocsin and the floor in a pair (10; quick 5)")
    parser.add_argument("--rate", type=float, help="messages a second (20; quick 100)")
    parser.add_argument("--pairs", type=int, help="of new processes of Tocsin and of the floor (5; quick 1)")
    parser.add_argument("--payload", type=int, default=128, help="bytes of what is published (128)")
    parser.add_argument("--idle", type=int, help="idle subscribers (10000; quick 1000); 0 leaves them out")
    parser.add_argument("--pause", type=float, default=2, help="milliseconds that the client sleeps between two looks (2); 0: none")
    parser.add_argument("--transport", choices=TRANSPORTS, action="append", help="only this one")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the figures, as JSON")
    options = parser.parse_args()
    defaults = (200, 10, 5, 100.0, 1, 1000) if options.quick else (5000, 8, 10, 20.0, 5, 10_000)
    for name, value in zip(("subscribers", "messages", "slices", "rate", "pairs", "idle"), defaults):
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def run(options, fanout):
    bench = Bench(options, find_binary(), fanout)
    transports = options.transport or TRANSPORTS
    results = {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": processor_name(), "processors": os.cpu_count(), "kernel": platform.release()},
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "fan_out": bench.fan_out(transports) if options.pairs else {},
        "memory": {transport: bench.idle(transport) for transport in transports} if options.idle else {},
    }
    print(table(results))
    for note in notes(bench, results):
        print(f"note: {note}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def main():
    options = read_options()
    options.subscribers = allow_descriptors(options.subscribers)
    options.idle = allow_descriptors(options.idle)
    try:
        with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
            run(options, compile_fanout(folder))
    except (Broken, subprocess.CalledProcessError, OSError) as problem:
        log(f"bench: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
