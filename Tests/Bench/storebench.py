#!/usr/bin/env python3
"""What publishing, replay and dashboards cost with the log on disk.

Publishing: 64 connections, each with one request under way, single messages of 200 bytes or batches of 100, to 8 channels. Whether all
that was acknowledged is there is asked afterwards; with disk durability the server is killed first. That the disk was really asked is seen
by a library that counts fsync and fdatasync: a sync makes at most one request of each connection durable, so there is a least number of
them. Other runs go without the library, and theirs are the figures that count.

Replay: a million messages are published, the server is started anew, a reader reads them all from the earliest; then eight at different
positions. Memory is what the server's VmRSS grew by at most. (What the system has of the file in its cache stays there.)

Dashboard: a steady stream of updates of 1000 keys, and a subscriber with rate=2/s. A send is a burst of messages: a pause of 100 ms ends
it.

A server without --store is measured in memory, and not against the bars. The machine is shared and its speed changes: before each part
stands what the disk and a core do just then. Times are reported, not judged: the exit status is 1 only if something was lost, repeated, out
of order or not made durable, or if something did not work.
"""

import argparse
import collections
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import queue
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import loads
from bench import find_binary, log
from loads import Broken

FOLDER = pathlib.Path(__file__).resolve().parent
# Connections settle, and what opening them left to do gets done.
SETTLE_SECONDS = 0.3
PARTS = ("publish", "batch", "replay", "dashboard")
BATCH = 100
CHANNELS = 8
PREFIX = "scores.bench"
REPLAY_PREFIX = "scores.replay"
REPLAY_CHANNEL = REPLAY_PREFIX + "0"
DASHBOARD = "dashboards.bench"
KEYS = 1000
READERS = 8
DASHBOARD_RATES = (2000, 10_000)
# A log in memory keeps 8 MiB of a channel.
REPLAY_IN_MEMORY = 10_000
KEPT = 2_000_000
BURST_PAUSE = 0.1
# Of the half second between two sends: timers and a busy machine move them about.
SEND_ALLOWANCE = 0.1
MEGABYTE = 1e6

BARS = {"publish": 15_000, "batch": 100_000, "replay": 300_000}
REPLAY_MEMORY_BAR = 50 * MEGABYTE
SENDS_BAR = 2
# Of the memory at 10,000 updates a second over that at 2,000: the allocator's chance.
RATE_MEMORY_BAR = 5 * MEGABYTE

Row = collections.namedtuple("Row", ["what", "wanted", "measured", "met", "detail"])
Memory = collections.namedtuple("Memory", ["resident", "anonymous"])
Counters = collections.namedtuple(
    "Counters", ["loaded", "fsyncs", "fdatasyncs", "sync_nanoseconds", "longest_nanoseconds", "writes", "written_bytes", "reads",
                 "read_bytes"])
Variant = collections.namedtuple("Variant", ["name", "durability", "is_counted"])
Arrival = collections.namedtuple("Arrival", ["time", "sequence", "skipped", "key", "value"])
Burst = collections.namedtuple("Burst", ["start", "end", "messages", "keys"])


class Refused(Broken):
    """The server does not know what a subscriber asks for."""


# What is run


class Server(loads.Logging):
    """Tocsin, on any processor."""

    def __init__(self, binary, flags, *, count_file=None, library=None):
        environment = dict(os.environ)
        if count_file:
            count_file.write_bytes(bytes(8 * len(Counters._fields)))
            environment |= {"LD_PRELOAD": str(library), "TOCSIN_COUNT_FILE": str(count_file)}
        self.count_file = count_file
        self.name = pathlib.Path(binary).name
        start = time.monotonic()
        self.process = subprocess.Popen(
            [str(binary), "serve", "--port", "0", "--drain", "1", *flags], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True).start()
        try:
            self.port = int(self.wait("message", "listening", 60)["port"])
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - start

    def stop(self):
        """Waits longer than for other processes: what is still under way goes to the disk."""
        for ask, patience in ((self.process.terminate, 30), (self.process.kill, None)):
            ask()
            try:
                self.process.wait(timeout=patience)
                break
            except subprocess.TimeoutExpired:
                log("the server did not end in 30 s, it is killed")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def counters(self):
        if not self.count_file:
            return None
        counters = Counters(*struct.unpack(f"{len(Counters._fields)}Q", self.count_file.read_bytes()))
        if not counters.loaded:
            raise Broken("the library that counts was not loaded")
        return counters

    def cpu_seconds(self):
        return sum(self.cpu_nanoseconds().values()) / 1e9

    def memory(self):
        figures = {}
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                figures[name] = int(value.split()[0]) * 1024
        return Memory(figures["VmRSS"], figures["RssAnon"])

    def ask(self, target):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Broken(f"GET {target} was answered {answer.status}: {body[:200]!r}")
        return json.loads(body)

    def sequence_of(self, channel):
        about = self.ask(f"/v1/channels/{channel}")
        return about["sequence"] if about else 0


class Sampler:
    """The most memory that the server had, every 50 ms."""

    def __init__(self, server):
        self.server = server
        self.before = self.most = server.memory()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def _sample(self):
        is_last = False
        while not is_last:
            # Once more at the end: a run may be shorter than a pause.
            is_last = self.is_over.wait(0.05)
            with contextlib.suppress(OSError, KeyError):  # the server has ended: whoever needs it says so
                self.most = Memory(*map(max, self.most, self.server.memory()))

    def growth(self):
        return Memory(self.most.resident - self.before.resident, self.most.anonymous - self.before.anonymous)


class Updates:
    """Publishes updates of keys in batches, over one connection; knows the newest value of each key."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.random = random.Random(1)
        self.published = 0
        self.newest = {}

    def batch(self, count):
        items = []
        for _ in range(count):
            self.published += 1
            key = f"k{self.random.randrange(KEYS)}"
            self.newest[key] = self.published
            items.append(f'{{"channel":"{DASHBOARD}","key":"{key}","data":{{"host":"{key}","load":0.75,"up":true,"v":{self.published}}}}}')
        self.connection.request("POST", "/v1/publish", "[" + ",".join(items) + "]", {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 201 or body.count(b'"sequence":') != count:
            raise Broken(f"a batch of updates was answered {answer.status}: {body[:200]!r}")

    def run(self, rate, seconds):
        """Says how many updates a second it was in fact."""
        start = time.monotonic()
        batches = round(rate * seconds / BATCH)
        for number in range(batches):
            time.sleep(max(0, start + number * BATCH / rate - time.monotonic()))
            # Seconds behind: it will not become better, and the run is to end.
            if time.monotonic() - start > 2 * seconds + 5:
                batches = number
                break
            self.batch(BATCH)
        # The last batch has its time, too.
        return batches * BATCH / max(time.monotonic() - start, batches * BATCH / rate)


class Subscriber:
    """A dashboard, over WebSocket: notes what comes and when."""

    def __init__(self, port, query):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.arrivals = []
        self.others = []
        self.problem = None
        self.is_over = False
        request = (f"GET /v1/subscribe?{query}&heartbeat=300 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
                   "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        self.socket.sendall(request.encode())
        self.bytes = b""
        while b"\r\n\r\n" not in self.bytes:
            self.bytes += self._receive()
        head, _, self.bytes = self.bytes.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            self.socket.close()
            raise Refused(f"a subscriber was refused: {head.splitlines()[0].decode()} {self.bytes[:300].decode(errors='replace')}")
        self.socket.settimeout(0.5)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        self.socket.close()

    def _receive(self):
        received = self.socket.recv(1 << 20)
        if not received:
            raise Broken("the server closed the subscriber's connection")
        return received

    def _run(self):
        try:
            while not self.is_over:
                self._take(time.monotonic())
                with contextlib.suppress(TimeoutError):
                    self.bytes += self._receive()
        except (Broken, OSError, ValueError, KeyError) as problem:
            self.problem = problem

    def _take(self, now):
        at, bytes = 0, self.bytes
        while len(bytes) - at >= 2:
            length, body = bytes[at + 1], at + 2
            if length in (126, 127):
                body += 2 if length == 126 else 8
                if len(bytes) < body:
                    break
                length = int.from_bytes(bytes[at + 2:body], "big")
            if len(bytes) < body + length:
                break
            if bytes[at] == 0x81:
                self._note(now, json.loads(bytes[body:body + length]))
            elif bytes[at] != 0x89:
                raise Broken(f"a frame that begins with {bytes[at]:#x}: {bytes[body:body + 100]!r}")
            at = body + length
        self.bytes = bytes[at:]

    def _note(self, now, message):
        if message["type"] == "notification":
            self.arrivals.append(Arrival(now, message["sequence"], message.get("skipped", 0), message["key"], message["data"]["v"]))
        elif message["type"] != "hello":
            self.others.append(message)

    def wait_for(self, sequence, patience):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not self.problem:
            if self.arrivals and self.arrivals[-1].sequence >= sequence:
                return
            time.sleep(0.02)


def bursts_of(arrivals):
    found = []
    for arrival in arrivals:
        if not found or arrival.time - found[-1].end > BURST_PAUSE:
            found.append(Burst(arrival.time, arrival.time, 0, set()))
        last = found[-1]
        last.keys.add(arrival.key)
        found[-1] = last._replace(end=arrival.time, messages=last.messages + 1)
    return found


def most_in_a_second(bursts):
    starts = [burst.start for burst in bursts]
    return max((sum(1 for other in starts if start <= other < start + 1 - SEND_ALLOWANCE) for start in starts), default=0)


def frequency_of(bursts):
    """Of what lies between the first and the last one."""
    return (len(bursts) - 1) / (bursts[-1].start - bursts[0].start) if len(bursts) > 1 else 0


# The benchmark


class Bench:
    def __init__(self, options, binary, folder):
        self.options = options
        self.binary = binary
        self.folder = pathlib.Path(folder)
        self.publish = compile_program(self.folder, "publish")
        self.replay = compile_program(self.folder, "replay")
        self.library = compile_program(self.folder, "countsync", library=True)
        usage = subprocess.run([str(binary), "serve", "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
        self.has_store = "--store" in usage
        self.faults = []
        self.notes = []
        self.rows = []
        self.results = {}

    def expect(self, is_so, text):
        if not is_so:
            self.faults.append(text)
            log(f"FAULT: {text}")

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def row(self, what, wanted, measured, is_met, detail=""):
        is_judged = is_met is not None and not self.options.quick
        self.rows.append(Row(what, wanted, measured, ("yes" if is_met else "no") if is_judged else "-", detail))

    @contextlib.contextmanager
    def store(self):
        with tempfile.TemporaryDirectory(prefix="tocsin-store-", dir=self.options.directory) as folder:
            yield pathlib.Path(folder)

    def server(self, store, durability="disk", *, is_counted=False, flags=()):
        flags = [*flags, *self.options.server_option]
        if self.has_store:
            flags += ["--store", str(store / "log.sqlite"), "--durability", durability]
        return Server(self.binary, flags, count_file=self.folder / "counters" if is_counted else None, library=self.library)

    def program(self, command, timeout):
        """What one of the C programs says in the end. It has limits of its own; this is for when they fail."""
        command = [str(part) for part in command]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Broken(f"{' '.join(command[:2])} did not end in {timeout:.0f} s") from None
        if done.returncode not in (0, 1) or not done.stdout:
            raise Broken(f"{' '.join(command)} ended with status {done.returncode}")
        return json.loads(done.stdout)

    # What the machine does just now

    def reference(self, part):
        spin = statistics.median(self.program([self.publish, "spin"], 60)["millions_per_second"] for _ in range(3))
        spent = []
        block = os.urandom(8192)
        with tempfile.TemporaryFile(dir=self.options.directory) as file:
            for _ in range(200):
                os.write(file.fileno(), block)
                start = time.monotonic()
                os.fdatasync(file.fileno())
                spent.append((time.monotonic() - start) * 1e6)
        spent.sort()
        figures = {"fdatasync_p50_us": round(spent[100]), "fdatasync_p99_us": round(spent[197]), "spin_millions_per_second": round(spin, 1)}
        self.results.setdefault("reference", {})[part] = figures
        text = (f"before {part}: 8 KB and fdatasync {spent[100]:.0f} us (p99 {spent[197]:.0f} us), "
                f"a core {spin:.0f} million rounds a second")
        self.notes.append(text)
        log(text)

    # Publishing

    def variants(self):
        if not self.has_store:
            return [Variant("in memory", None, False)]
        return [Variant("disk", "disk", False), Variant("disk, syncs counted", "disk", True), Variant("memory", "memory", False)]

    def publishing(self, part, batch):
        runs = {variant: [] for variant in self.variants()}
        for number in range(self.options.runs):
            for variant, done in runs.items():
                done.append(self.publish_once(part, variant, batch))
                log(f"{part}, {variant.name}, run {number + 1}: {done[-1]['messages_per_second']:.0f}/s")
        self.results[part] = {variant.name: done for variant, done in runs.items()}
        for variant, done in runs.items():
            rate = median(done, "messages_per_second")
            bar = BARS[part] if variant.durability == "disk" else None
            what = "single publishes" if batch == 1 else f"batches of {batch}"
            detail = (f"p50 {median(done, 'p50_us') / 1000:.2f} ms, p99 {median(done, 'p99_us') / 1000:.2f} ms, "
                      f"{median(done, 'server_us_per_message'):.1f} us of the server's processor time each")
            if variant.is_counted:
                detail += (f"; {median(done, 'syncs_per_second'):.0f} syncs a second of {median(done, 'sync_us'):.0f} us, "
                           f"{median(done, 'messages_per_sync'):.0f} messages each")
            self.row(f"{what}, {variant.name}", f">= {bar:,}/s" if bar else "-", f"{rate:,.0f}/s", rate >= bar if bar else None, detail)

    def publish_once(self, part, variant, batch):
        options = self.options
        name = f"{part}, {variant.name}"
        with self.store() as store:
            with self.server(store, variant.durability, is_counted=variant.is_counted) as server:
                before, cpu = server.counters(), server.cpu_seconds()
                result = self.program(
                    [self.publish, "load", "--port", server.port, "--connections", options.connections, "--channels", CHANNELS, "--batch",
                     batch, "--bytes", options.payload, "--warm-up", options.warm_up, "--seconds", options.seconds, "--prefix", PREFIX],
                    options.warm_up + options.seconds + 60)
                cpu, after = server.cpu_seconds() - cpu, server.counters()
                result["server_us_per_message"] = cpu * 1e6 / max(1, result["acknowledged_messages"])
                trouble = {key: result[key] for key in ("errors", "refused_messages", "unanswered") if result[key]}
                self.expect(not trouble, f"{name}: {trouble} {result['first_error']}")
                self.expect(result["acknowledged_messages"] > 0, f"{name}: nothing was acknowledged")
                self.check_published(f"{name}", server, result, batch)
                if variant.durability == "disk":
                    server.kill()
            if variant.durability == "disk":
                with self.server(store) as server:
                    self.check_published(f"{name}, after a kill", server, result, batch)
            if variant.is_counted:
                self.count_syncs(name, before, after, result)
        return result

    def check_published(self, name, server, result, batch):
        """Nothing was lost, and nothing is there that nobody published. Of what was not answered either may be."""
        there = sum(server.sequence_of(f"{PREFIX}{number}") for number in range(CHANNELS))
        acknowledged, unknown = result["acknowledged_messages"], (result["unanswered"] + result["errors"]) * batch
        self.expect(acknowledged <= there <= acknowledged + unknown, f"{name}: {acknowledged} were acknowledged, {there} are there")

    def count_syncs(self, name, before, after, result):
        spent = {field: getattr(after, field) - getattr(before, field) for field in Counters._fields}
        syncs = spent["fsyncs"] + spent["fdatasyncs"]
        least = -(-result["acknowledged_requests"] // self.options.connections)
        self.expect(syncs > 0, f"{name}: no fsync, no fdatasync")
        self.expect(syncs >= least, f"{name}: {syncs} syncs for {result['acknowledged_requests']} answers; {least} is the least")
        result["counted"] = spent | {"syncs": syncs, "least_syncs": least}
        result["syncs_per_second"] = syncs / (self.options.warm_up + self.options.seconds)
        result["sync_us"] = spent["sync_nanoseconds"] / 1000 / max(1, syncs)
        result["messages_per_sync"] = result["acknowledged_messages"] / max(1, syncs)

    # Replay

    def replaying(self):
        wanted = self.options.replay if self.has_store else min(self.options.replay, REPLAY_IN_MEMORY)
        # Whole batches.
        total = -(-wanted // BATCH) * BATCH
        if not self.has_store:
            self.note(f"replay: without --store {total:,} messages, from memory, and not from a server that was started anew")
        runs = {"sse": [], "websocket": [], "readers": []}
        flags = ["--keep", f"*=messages:{KEPT},bytes:2GiB"]
        with self.store() as store, contextlib.ExitStack() as kept:
            server = kept.enter_context(self.server(store, flags=flags))
            self.fill(server, total)
            if self.has_store:
                server.stop()
            for number in range(self.options.runs):
                for what, done in runs.items():
                    with contextlib.ExitStack() as stack:
                        if self.has_store:
                            server = stack.enter_context(self.server(store, is_counted=True, flags=flags))
                        done.append(self.replay_once(server, what, total))
                    log(f"replay, {what}, run {number + 1}: {done[-1]['messages_per_second']:.0f}/s, "
                        f"VmRSS +{done[-1]['growth'].resident / MEGABYTE:.1f} MB")
        self.results["replay"] = runs
        self.replay_rows(runs, total)

    def fill(self, server, total):
        command = [self.publish, "load", "--port", server.port, "--connections", 8, "--channels", 1, "--batch", BATCH, "--bytes",
                   self.options.payload, "--total", total, "--prefix", REPLAY_PREFIX]
        # A thousand a second is the least that is waited for.
        result = self.program(command, total / 1000 + 60)
        log(f"replay: {total} published, {result['messages_per_second']:.0f}/s")
        if result["acknowledged_messages"] != total:
            raise Broken(f"replay: of {total} messages {result['acknowledged_messages']} were acknowledged: {result['first_error']}")

    def replay_once(self, server, what, total):
        about = server.ask(f"/v1/channels/{REPLAY_CHANNEL}")
        if about is None or about["sequence"] != total or about["first_sequence"] != 1:
            raise Broken(f"replay: of {total} messages the server has {about}")
        readers = self.readers(server, total) if what == "readers" else [(1, "earliest")]
        command = [self.replay, "--port", server.port, "--channel", REPLAY_CHANNEL, "--last", total,
                   "--transport", "websocket" if what == "websocket" else "sse"]
        for first, after in readers:
            command += ["--reader", f"{first}:{after}"]
        time.sleep(SETTLE_SECONDS)
        counters, cpu = server.counters(), server.cpu_seconds()
        expected = sum(total + 1 - first for first, _ in readers)
        with Sampler(server) as sampler:
            result = self.program(command, expected / 1000 + 60)
        result["server_us_per_message"] = (server.cpu_seconds() - cpu) * 1e6 / max(1, result["messages"])
        if counters:
            result["read_bytes_per_message"] = (server.counters().read_bytes - counters.read_bytes) / max(1, result["messages"])
        time.sleep(SETTLE_SECONDS)
        result |= {"before": sampler.before, "most": sampler.most, "after": server.memory(), "growth": sampler.growth(),
                   "start_seconds": server.start_seconds}
        trouble = {key: result[key] for key in ("missing", "disordered", "gaps", "closed", "malformed") if result[key]}
        self.expect(not trouble, f"replay, {what}: {trouble} {result['first_fault']}")
        self.expect(result["messages"] == expected, f"replay, {what}: {result['messages']} messages came, not {expected}")
        return result

    def readers(self, server, total):
        """At positions that are evenly apart; the first one has all before it."""
        found = [(1, "earliest")]
        for number in range(1, READERS):
            sequence = total * number // READERS
            page = server.ask(f"/v1/channels/{REPLAY_CHANNEL}/history?after={sequence - 1}&limit=1")
            found.append((sequence + 1, page["messages"][0]["position"]))
        return found

    def replay_rows(self, runs, total):
        titles = {"sse": "SSE", "websocket": "WebSocket", "readers": f"{READERS} readers at once, SSE"}
        for what, done in runs.items():
            rate = median(done, "messages_per_second")
            is_judged = self.has_store and what != "readers"
            detail = (f"{median(done, 'bytes_per_message'):.0f} bytes and {median(done, 'server_us_per_message'):.2f} us of the server's "
                      "processor time each")
            if "read_bytes_per_message" in done[0]:
                detail += f", {median(done, 'read_bytes_per_message'):.0f} bytes read from files each"
            if what == "sse" and self.has_store:
                detail += f"; started in {median(done, 'start_seconds'):.2f} s"
            self.row(f"replay of {total:,}, {titles[what]}", f">= {BARS['replay']:,}/s" if is_judged else "-", f"{rate:,.0f}/s",
                     rate >= BARS["replay"] if is_judged else None, detail)
            grown = max(run["growth"].resident for run in done)
            anonymous = max(run["growth"].anonymous for run in done)
            left = max(run["after"].resident - run["before"].resident for run in done)
            self.row(f"  memory, {titles[what]}", f"< {REPLAY_MEMORY_BAR / MEGABYTE:.0f} MB" if is_judged else "-",
                     f"{grown / MEGABYTE:.1f} MB", grown < REPLAY_MEMORY_BAR if is_judged else None,
                     f"anonymous {anonymous / MEGABYTE:.1f} MB; afterwards {left / MEGABYTE:.1f} MB; "
                     f"{done[0]['before'].resident / MEGABYTE:.1f} MB before; the worst of {len(done)}")

    # Dashboard

    def dashboards(self):
        runs = {rate: [] for rate in DASHBOARD_RATES}
        for number in range(self.options.runs):
            for rate, done in runs.items():
                done.append(self.dashboard_once(rate))
                log(f"dashboard, {rate} updates/s, run {number + 1}: {done[-1]['sends']} sends, at most {done[-1]['sends_in_a_second']} "
                    f"in a second, {done[-1]['skipped']} skipped, VmRSS {done[-1]['most'].resident / MEGABYTE:.1f} MB")
        self.results["dashboard"] = runs
        for rate, done in runs.items():
            sends = max(run["sends_in_a_second"] for run in done)
            is_conflated = not any(run["keys_again"] for run in done)
            self.row(f"dashboard, {rate:,} updates/s: sends in a second", f"<= {SENDS_BAR}", f"{sends}" if is_conflated else "a stream",
                     sends <= SENDS_BAR and is_conflated if done[0]["is_limited"] else None,
                     f"{median(done, 'sends_per_second'):.2f} a second, of {median(done, 'messages_per_send'):.0f} messages and at most "
                     f"{max(run['longest_send'] for run in done) * 1000:.0f} ms; {median(done, 'skipped'):.0f} skipped; "
                     f"{median(done, 'updates_per_second'):.0f} updates a second, {median(done, 'server_share'):.0%} of a processor")
            if median(done, "updates_per_second") < 0.95 * rate:
                self.note(f"dashboard: {median(done, 'updates_per_second'):.0f} updates a second were published, not {rate}")
        slow, fast = (statistics.median(run["most"].resident for run in runs[rate]) for rate in DASHBOARD_RATES)
        is_limited = all(run["is_limited"] for done in runs.values() for run in done)
        self.row("dashboard: memory at 10,000 updates/s over that at 2,000", f"<= +{RATE_MEMORY_BAR / MEGABYTE:.0f} MB",
                 f"{(fast - slow) / MEGABYTE:+.1f} MB", fast - slow <= RATE_MEMORY_BAR if is_limited else None,
                 f"VmRSS {fast / MEGABYTE:.1f} MB and {slow / MEGABYTE:.1f} MB")

    def subscriber(self, server):
        query = f"channel={DASHBOARD}&after=latest"
        try:
            return Subscriber(server.port, query + "&rate=2/s"), True
        except Refused:
            if self.has_store:
                raise
            self.note("dashboard: without rate=2/s, which this server does not know")
            return Subscriber(server.port, query), False

    def dashboard_once(self, rate):
        name = f"dashboard, {rate} updates/s"
        with self.store() as store, self.server(store) as server:
            updates = Updates(server.port)
            # So that the log is as full at either rate.
            for _ in range(self.options.prefill // 1000):
                updates.batch(1000)
            base = updates.published
            updates.newest = {}
            time.sleep(SETTLE_SECONDS)
            subscriber, is_limited = self.subscriber(server)
            with subscriber, Sampler(server) as sampler:
                start, cpu = time.monotonic(), server.cpu_seconds()
                updates_per_second = updates.run(rate, self.options.dashboard_seconds)
                cpu, seconds = server.cpu_seconds() - cpu, time.monotonic() - start
                subscriber.wait_for(updates.published, 10)
                # What comes after the last one should not come.
                time.sleep(0.6)
            there = server.sequence_of(DASHBOARD)
        self.expect(there == updates.published, f"{name}: {updates.published} updates were published, {there} are there")
        return self.dashboard_figures(name, subscriber, updates, base) | {
            "is_limited": is_limited, "updates_per_second": updates_per_second, "server_share": cpu / seconds, "before": sampler.before,
            "most": sampler.most, "growth": sampler.growth()}

    def dashboard_figures(self, name, subscriber, updates, base):
        arrivals = subscriber.arrivals
        self.expect(not subscriber.problem, f"{name}: {subscriber.problem}")
        self.expect(not subscriber.others, f"{name}: also came {subscriber.others[:3]}")
        previous = base
        for arrival in arrivals:
            if arrival.sequence != previous + 1 + arrival.skipped:
                self.expect(False, f"{name}: {arrival.sequence} with {arrival.skipped} skipped came after {previous}")
                break
            previous = arrival.sequence
        skipped = sum(arrival.skipped for arrival in arrivals)
        published = updates.published - base
        self.expect(len(arrivals) + skipped == published,
                    f"{name}: {len(arrivals)} messages and {skipped} skipped are not the {published} that were published")
        shown = {arrival.key: arrival.value for arrival in arrivals}
        stale = [key for key, value in updates.newest.items() if shown.get(key) != value]
        self.expect(not stale, f"{name}: {len(stale)} keys do not show the newest value, as {stale[:3]}")
        bursts = bursts_of(arrivals)
        return {
            "sends": len(bursts), "sends_in_a_second": most_in_a_second(bursts), "sends_per_second": frequency_of(bursts),
            "messages": len(arrivals), "skipped": skipped, "messages_per_send": len(arrivals) / max(1, len(bursts)),
            "longest_send": max((burst.end - burst.start for burst in bursts), default=0),
            "keys_again": sum(burst.messages - len(burst.keys) for burst in bursts),
        }

    # All

    def run(self):
        parts = {
            "publish": lambda: self.publishing("publish", 1), "batch": lambda: self.publishing("batch", BATCH),
            "replay": self.replaying, "dashboard": self.dashboards,
        }
        for part in self.options.only:
            try:
                self.reference(part)
                parts[part]()
            except (Broken, subprocess.CalledProcessError, OSError) as problem:
                self.expect(False, f"{part}: {problem}")


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def compile_program(folder, name, *, library=False):
    program = folder / (f"{name}.so" if library else name)
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", *(["-shared", "-fPIC"] if library else [])]
    subprocess.run(["cc", *flags, "-o", str(program), str(FOLDER / f"{name}.c")], check=True)
    return program


def file_system(directory):
    """Of the longest mount point that the directory is below."""
    directory = pathlib.Path(directory).resolve()
    mounts = (line.split()[1:3] for line in pathlib.Path("/proc/mounts").read_text().splitlines())
    return max(((len(point), kind) for point, kind in mounts if directory.is_relative_to(point)), default=(0, "?"))[1]


def table(rows):
    rows = [Row("what", "wanted", "measured", "met", ""), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row.detail]).rstrip() for row in rows)


def plain(value):
    """For JSON: named tuples with their names, keys as text."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, list) else value


def parts_of(text):
    parts = text.split(",")
    if not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"the parts are {', '.join(PARTS)}")
    return [part for part in PARTS if part in parts]


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", type=pathlib.Path, help="the server (TOCSIN_BINARY, or the release build)")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the figures, as JSON")
    parser.add_argument("--quick", action="store_true", help="a short form that shows that all works; its figures mean little")
    parser.add_argument("--only", type=parts_of, default=list(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--directory", type=pathlib.Path, default=tempfile.gettempdir(), help="where the logs are written (that for "
                        "temporary files)")
    parser.add_argument("--runs", type=int, help="of each (3; quick 1)")
    parser.add_argument("--seconds", type=float, help="of publishing (5; quick 1.5)")
    parser.add_argument("--warm-up", type=float, help="seconds before that (1; quick 0.3)")
    parser.add_argument("--replay", type=int, help="messages (1000000; quick 50000)")
    parser.add_argument("--dashboard-seconds", type=float, help="of updates (10; quick 2)")
    parser.add_argument("--prefill", type=int, help="updates before that (20000; quick 2000)")
    parser.add_argument("--connections", type=int, default=64, help="that publish (64)")
    parser.add_argument("--payload", type=int, default=200, help="bytes of what is published and replayed (200)")
    parser.add_argument("--server-option", action="append", default=[], help="for the server as well, as --server-option=--loops=2")
    parser.add_argument("--limit", type=int, default=3600, help="seconds after which it ends in any case (3600)")
    options = parser.parse_args()
    defaults = {"runs": (3, 1), "seconds": (5.0, 1.5), "warm_up": (1.0, 0.3), "replay": (1_000_000, 50_000),
                "dashboard_seconds": (10.0, 2.0), "prefill": (20_000, 2000)}
    for name, (whole, quick) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else whole)
    return options


def end(number, _):
    # As an exception it passes all that ends the processes that were started.
    sys.exit(f"storebench: ended by {signal.Signals(number).name}")


def show(subject, options):
    print(table(subject.rows))
    for note in subject.notes:
        print(f"note: {note}")
    for fault in subject.faults:
        print(f"FAULT: {fault}")
    if options.out:
        results = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {**loads.machine(), "file_system": file_system(options.directory)},
            "settings": {name: str(value) for name, value in vars(options).items()},
            "has_store": subject.has_store, "figures": subject.results, "rows": subject.rows, "notes": subject.notes,
            "faults": subject.faults,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(plain(results), indent=2) + "\n")


def main():
    options = read_options()
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(options.limit)
    try:
        with tempfile.TemporaryDirectory(prefix="tocsin-storebench-") as folder:
            subject = Bench(options, options.binary.resolve() if options.binary else find_binary(), folder)
            if subject.has_store and file_system(options.directory) == "tmpfs":
                subject.note(f"{options.directory} is in memory: fsync costs nothing there")
            try:
                subject.run()
            finally:
                # What there is, if it was ended.
                show(subject, options)
    except (Broken, subprocess.SubprocessError, OSError) as problem:
        log(f"storebench: {problem}")
        return 1
    return 1 if subject.faults else 0


if __name__ == "__main__":
    sys.exit(main())
