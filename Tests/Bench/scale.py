#!/usr/bin/env python3
"""How many subscribers one machine holds: several processes of one server on one port, several load generators.

First 100,000 subscribers, most of them with a connection each, where a process may have 20,000 descriptors; then 1,000,000
subscriptions, as streams of HTTP/2. Each run says how long it takes until all are subscribed, what the server's processes and the kernel
take of memory for it, and how long one message takes to reach all of them.

Times are reported, not judged: the exit status is 1 only if a message was lost, came twice or out of order, or if something did not work.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time

START_SECONDS = 30
# Until all are subscribed.
SUBSCRIBE_SECONDS = 600
# Until a message has reached all, and between two messages.
REACH_SECONDS = 60
STOP_SECONDS = 60
# Of a process besides its connections: files, loops, what is kept free for what is refused.
DESCRIPTORS_BESIDES = 100


class Group:
    """Load generators of one kind: transport, connections, streams on each of them."""

    def __init__(self, transport, connections, streams=1):
        self.transport, self.connections, self.streams = transport, connections, streams

    @property
    def subscribers(self):
        return self.connections * self.streams

    def split(self, most):
        """The same in parts that each fit a process."""
        parts = -(-self.connections // most)
        counts = [self.connections // parts + (part < self.connections % parts) for part in range(parts)]
        return [Group(self.transport, count, self.streams) for count in counts]


def plans(scale):
    """The runs: what is counted, server processes, groups. The scale makes them smaller."""
    def some(count):
        return max(10, int(count * scale))
    return [
        ("subscribers", 6, [Group("sse", some(45_000)), Group("websocket", some(45_000)), Group("sse-h2", some(100), 100)]),
        ("subscriptions", 2, [Group("sse-h2", some(10_000), 100)]),
    ]


def member(path, name):
    """A number of kilobytes behind a name in a file of /proc, in bytes."""
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in {path}")


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


class Memory:
    """What the processes take, and the kernel in the whole machine."""

    def __init__(self, pids):
        self.user = sum(member(f"/proc/{pid}/smaps_rollup", "Anonymous:") for pid in pids)
        self.objects = member("/proc/meminfo", "SUnreclaim:")
        for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
            if line.startswith("TCP:"):
                words = line.split()
                self.buffers = int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


class Server:
    def __init__(self, binary, processes):
        line = [binary, "serve", "--host", "127.0.0.1", "--port", "0", "--store", ":memory:", "--durability", "memory"]
        line += ["--processes", str(processes), "--loops", "1", "--heartbeat", "300", "--drain", "1"]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            listening = [entry for entry in self.entries() if entry.get("message") == "listening"]
            if listening:
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.text()}")
            time.sleep(0.05)
        self.port = int(listening[0]["port"])
        self.pids = [self.process.pid, *children(self.process.pid)]

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def entries(self):
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{") and line.endswith("}")]

    def connections(self):
        """Open connections of each process."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        link.request("GET", "/metrics")
        lines = link.getresponse().read().decode().splitlines()
        link.close()
        return [int(float(line.split()[1])) for line in lines if line.startswith("tocsin_process_connections{")]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        problems = [entry for entry in self.entries() if entry.get("level") in ("error", "critical")]
        self.log.close()
        if self.process.returncode != 0 or problems:
            raise RuntimeError(f"the server ended with {self.process.returncode}: {problems[:3]}")


class Listener:
    """One `tocsin bench --listen`."""

    def __init__(self, binary, server, group, run, messages, folder, number):
        self.group = group
        self.file = pathlib.Path(folder) / f"{number}.json"
        line = [binary, "bench", "--url", f"http://127.0.0.1:{server.port}", "--transport", group.transport, "--listen",
                "--run", str(run), "--subscribers", str(group.subscribers), "--streams", str(group.streams),
                "--messages", str(messages), "--rate", "1000", "--patience", str(SUBSCRIBE_SECONDS),
                "--connect-timeout", str(SUBSCRIBE_SECONDS), "--json", str(self.file)]
        self.said = []
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line.rstrip())

    @property
    def is_listening(self):
        if self.process.poll() is not None:
            self.reader.join(5)
            raise RuntimeError(f"a load generator ended with {self.process.returncode}: {self.said[-3:]}")
        return "listening" in self.said

    def report(self, deadline):
        self.process.wait(max(1, deadline - time.monotonic()))
        return json.loads(self.file.read_text())

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def publish(server, run, number):
    """One message as `tocsin bench` makes them: its number and when it was due. Answers the milliseconds to the server's answer."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REACH_SECONDS)
    link.connect()
    due = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    payload = f'{{"b":"@tb{run:08x}{number:08x}{due:014x}~'.ljust(126, "x") + '"}'
    link.request("POST", f"/v1/channels/bench.{run:x}.0", payload)
    answer = link.getresponse()
    answer.read()
    taken = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - due
    link.close()
    if answer.status != 201:
        raise RuntimeError(f"publishing was answered with {answer.status}")
    return taken / 1e6


def measure(arguments, what, processes, groups, folder):
    """One run, as it stands in the report."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - DESCRIPTORS_BESIDES
    parts = [part for group in groups for part in group.split(min(most, 15_000))]
    subscribers = sum(part.subscribers for part in parts)
    name = f"{subscribers:,} {what}"
    run = random.getrandbits(32)
    server = Server(arguments.binary, processes)
    listeners = []
    try:
        before = Memory(server.pids)
        start = time.monotonic()
        for number, part in enumerate(parts):
            listeners.append(Listener(arguments.binary, server, part, run, arguments.messages, folder, f"{processes}-{number}"))
        while not all([listener.is_listening for listener in listeners]):
            if time.monotonic() > start + SUBSCRIBE_SECONDS:
                raise RuntimeError(f"not all subscribed in {SUBSCRIBE_SECONDS} s")
            time.sleep(0.05)
        subscribed = time.monotonic() - start
        print(f"{name}: all subscribed in {subscribed:.1f} s", file=sys.stderr, flush=True)
        time.sleep(arguments.pause)
        after = Memory(server.pids)
        spread = server.connections()
        taken = []
        for number in range(arguments.messages):
            taken.append(publish(server, run, number))
            time.sleep(arguments.pause)
        deadline = time.monotonic() + REACH_SECONDS
        reports = [listener.report(deadline) for listener in listeners]
    finally:
        for listener in listeners:
            listener.stop()
        server.stop()

    def total(member):
        return sum(report[member] for report in reports)
    return {
        "name": name,
        "processes": processes,
        "subscribers": subscribers,
        "connections": sum(part.connections for part in parts),
        "connections_by_process": spread,
        "load_generators": len(parts),
        "groups": [{"transport": group.transport, "connections": group.connections, "streams": group.streams} for group in groups],
        "all_subscribed_seconds": round(subscribed, 2),
        "user_bytes": after.user - before.user,
        "user_bytes_per_subscriber": round((after.user - before.user) / subscribers, 1),
        "kernel_object_bytes_both_ends": after.objects - before.objects,
        "tcp_buffer_bytes_both_ends": after.buffers - before.buffers,
        "messages": arguments.messages,
        "answered_ms": [round(value, 2) for value in taken],
        "reached_half_ms": round(max(report["latency_ms"]["p50"] for report in reports), 1),
        "reached_all_ms": round(max(report["latency_ms"]["max"] for report in reports), 1),
        "delivered": total("delivered"),
        "lost": total("lost"),
        "repeated": total("repeated"),
        "reordered": total("reordered"),
        "ended": total("subscribers_ended"),
    }


def table(runs):
    rows = [["", *(run["name"] for run in runs)]]
    for title, text in (
            ("server processes", lambda run: f"{run['processes']} and the main one"),
            ("connections", lambda run: f"{run['connections']:,}"),
            ("of one process, at most", lambda run: f"{max(run['connections_by_process']):,}"),
            ("all subscribed in", lambda run: f"{run['all_subscribed_seconds']} s"),
            ("user memory, all processes", lambda run: f"{run['user_bytes'] / 2**20:.0f} MiB"),
            ("per subscriber", lambda run: f"{run['user_bytes_per_subscriber']:.0f} B"),
            ("kernel, both ends: objects", lambda run: f"{run['kernel_object_bytes_both_ends'] / 2**20:.0f} MiB"),
            ("kernel, both ends: TCP buffers", lambda run: f"{run['tcp_buffer_bytes_both_ends'] / 2**20:.0f} MiB"),
            ("a message has reached all in", lambda run: f"{run['reached_all_ms']:.0f} ms"),
            ("delivered", lambda run: f"{run['delivered']:,}"),
            ("lost, repeated, out of order", lambda run: f"{run['lost']}, {run['repeated']}, {run['reordered']}")):
        rows.append([title, *(text(run) for run in runs)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--out", help="a file for the figures")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of connections")
    parser.add_argument("--only", type=int, choices=(1, 2), help="the first run, or the second")
    parser.add_argument("--messages", type=int, default=3)
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between messages, and before memory is read")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, to see that it runs")
    arguments = parser.parse_args()
    arguments.binary = str(pathlib.Path(arguments.binary).resolve())
    if arguments.quick:
        arguments.scale, arguments.pause = 0.01, 1.0
    # Load generators raise theirs themselves; the server takes what it is given.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (what, processes, groups) in enumerate(plans(arguments.scale), 1):
            if arguments.only in (None, number):
                runs.append(measure(arguments, what, processes, groups, folder))
    print(table(runs))
    if arguments.out:
        report = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": {"kernel": platform.release(), "processors": os.cpu_count(), "descriptors_of_a_process":
                        resource.getrlimit(resource.RLIMIT_NOFILE)[1], "memory_bytes": member("/proc/meminfo", "MemTotal:")},
            "runs": runs,
        }
        pathlib.Path(arguments.out).write_text(json.dumps(report, indent=2) + "\n")
    whole = all(run["lost"] == run["repeated"] == run["reordered"] == run["ended"] == 0 for run in runs)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
