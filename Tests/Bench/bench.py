#!/usr/bin/env python3
"""What a delivery, an idle subscriber and a reconnect cost, beside the bars that are set for them.

Fan-out: so many subscribers, messages published over HTTP at a steady rate at which nothing is saturated. The server's processor time per
delivery is divided by that of the floor (floor.c), a C program that does little more than one send() for each. Both have one event loop on
the same processor, the load generator (`tocsin bench`) has another one, and a pair is a run of each right after the other, with fresh
processes; who comes first changes. What stands in the table is the median of the ratios of the pairs.

Times are reported, not judged: a bar that is not met is said so and no more. The exit status is 1 if a message was lost, came twice or out
of order, or if something did not work.
"""

import argparse
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import loads
from loads import Broken

PROJECT = loads.FOLDER.parent.parent
# No process may have more of its processor than that: above it, waiting begins to show in what is measured.
BUSY_MAX = 0.65
RATE_MIN = 1.0
# Of the machine's time, by other processes: above it the table says so.
OTHERS_MAX = 0.03


class Floor(loads.Server):
    """floor.c, with frames of so many bytes."""

    profile = loads.PROFILES / "floor.json"

    def __init__(self, program, folder, frame_bytes, cpus, arguments=()):
        port, = loads.free_ports(1)
        ports = {(is_http2, False): port for is_http2 in (False, True)}
        super().__init__([program, "--port", port, "--bytes", frame_bytes, *arguments], ports, cpus, folder / "floor.log")


@dataclass
class FanOut:
    """Server CPU per delivery, beside the floor's: its bar is a ratio."""

    name: str
    bar: float
    transport: str
    floor_transport: str
    streams: int = 1
    is_tls: bool = False
    channels: int = 1
    # A message for each channel in one request.
    is_batched: bool = False
    # Of the rate of the settings, where a delivery costs much.
    share_of_rate: float = 1.0


@dataclass
class Memory:
    """User-space memory of an idle subscriber: its bar is in KB of 1024 bytes."""

    name: str
    bar: float
    transport: str
    streams: int = 1
    is_tls: bool = False
    # Of the whole measurement; with TLS the handshakes take most of the time.
    share_of_idle: float = 1.0


@dataclass
class Latency:
    """p99.9 of the delivery: its bar is in ms more than the floor."""

    name: str
    bar: float


@dataclass
class Resume:
    """All subscribers come back at once: its bar is in s until the last one is live."""

    name: str
    bar: float
    is_tls: bool
    # A client has the ticket of its earlier TLS session, as a browser has.
    has_tickets: bool = True


ROWS = {
    "websocket": FanOut("WebSocket", 1.05, "websocket", "websocket"),
    "sse": FanOut("SSE, HTTP/1.1", 1.08, "sse", "sse"),
    "h2-100": FanOut("SSE, HTTP/2, 100 streams a connection", 0.15, "sse-h2", "sse", streams=100),
    "h2-1": FanOut("SSE, HTTP/2, one stream a connection", 1.2, "sse-h2", "sse", share_of_rate=0.5),
    "websocket-tls": FanOut("WebSocket, TLS 1.3; plain floor", 1.5, "websocket", "websocket", is_tls=True, share_of_rate=0.5),
    "h2-tls-100": FanOut("SSE, HTTP/2, TLS, 100 streams; plain floor", 0.25, "sse-h2", "sse", streams=100, is_tls=True),
    "long-poll": FanOut("long-poll, with the next poll", 1.3, "long-poll", "long-poll", share_of_rate=0.25),
    "channels": FanOut(
        "1,000 channels, published together", 1.1, "websocket", "websocket", channels=1000, is_batched=True, share_of_rate=0.5),
    "channels-single": FanOut(
        "1,000 channels, published one by one", 1.1, "websocket", "websocket", channels=1000, share_of_rate=0.125),
    "memory-websocket": Memory("idle: WebSocket", 3.3, "websocket"),
    "memory-sse": Memory("idle: SSE, HTTP/1.1", 3.5, "sse"),
    "memory-long-poll": Memory("idle: parked long-poll", 4, "long-poll"),
    "memory-websocket-tls": Memory("idle: WebSocket, TLS", 18, "websocket", is_tls=True, share_of_idle=0.5),
    "memory-h2-alone": Memory("idle: SSE, HTTP/2, alone on its TLS connection", 40, "sse-h2", is_tls=True, share_of_idle=0.5),
    "memory-h2-further": Memory("idle: SSE, HTTP/2, each further stream", 1.2, "sse-h2", streams=100, is_tls=True),
    "latency": Latency("p99.9 of the latency, WebSocket", 2),
    "resume": Resume("all reconnect and resume", 2, False),
    "resume-tls": Resume("all reconnect and resume, TLS", 8, True),
    "resume-tls-full": Resume("all reconnect and resume, TLS, no tickets", 8, True, has_tickets=False),
}


@dataclass
class Settings:
    pairs: int = 5
    payload: int = 128
    subscribers: int = 5000
    # Messages a second in each channel; halved while a process is too busy.
    rate: float = 20
    seconds: float = 4
    # Milliseconds that the load generator sleeps between two looks at its sockets, where processor time is measured.
    pause: float = 2
    idle: int = 10000
    latency_subscribers: int = 1000
    latency_rate: float = 20
    latency_seconds: float = 10
    resume_clients: int = 10000
    # Published while all connections are cut.
    resume_messages: int = 10
    settle: float = 0.5


QUICK = Settings(
    pairs=1, subscribers=200, rate=50, seconds=0.4, idle=200, latency_subscribers=100, latency_rate=50, latency_seconds=0.4,
    resume_clients=200, settle=0.1)


def share_of_others(action):
    """What `action` returns, and the share of the machine's time in which other processes than ours ran, or the host took it."""
    def busy():
        words = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in words)
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        spent = sum(usage.ru_utime + usage.ru_stime for usage in ours)
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - spent

    before, start = busy(), time.monotonic()
    result = action()
    return result, max(0, busy() - before) / (time.monotonic() - start) / os.cpu_count()


class Bench:
    def __init__(self, settings, binary, folder):
        self.settings = settings
        self.binary = binary
        self.folder = pathlib.Path(folder)
        self.processors = loads.Processors()
        self.certificate = loads.make_certificate(self.folder)
        self.floor_program = compile_floor(self.folder)
        self.faults = []
        self.others = 0.0

    def run(self, row_name, make_server, *, may_fail=False, **options):
        """A fresh server and one load; answers the report."""
        def go():
            with make_server() as server:
                return loads.bench(self.binary, server, self.processors.generator, payload=self.settings.payload, **options)

        report, others = share_of_others(go)
        self.others = max(self.others, others)
        fault = loads.what_went_wrong(report)
        if fault and not may_fail:
            self.faults.append(f"{row_name}: {fault}")
            log(f"NOT WHOLE: {self.faults[-1]}")
        return report

    def floor(self, frame_bytes):
        return Floor(self.floor_program, self.folder, frame_bytes, self.processors.server)

    def tocsin(self):
        return loads.Tocsin(self.binary, self.folder, self.certificate, self.processors.server)

    # Server CPU per delivery

    def fan_out(self, key, row):
        settings = self.settings
        channels = min(row.channels, settings.subscribers // 5) if row.channels > 1 else 1
        frame_bytes = 0

        batch = channels if row.is_batched else 1

        def run(who, rate, seconds, **besides):
            is_floor = who == "floor"
            return self.run(
                f"{key}, {who}", (lambda: self.floor(frame_bytes)) if is_floor else self.tocsin,
                transport=row.floor_transport if is_floor else row.transport, streams=1 if is_floor else row.streams,
                is_tls=row.is_tls and not is_floor, subscribers=settings.subscribers, channels=channels, batch=batch,
                rate=rate * channels, messages=max(2, round(seconds * rate)) * channels, pause=settings.pause, settle=settings.settle,
                **besides)

        rate = settings.rate * row.share_of_rate
        while True:
            # What a message of Tocsin has on the wire is what the floor sends.
            report = run("tocsin", rate, min(1, settings.seconds), may_fail=True)
            frame_bytes = round(report["wire_bytes_in_per_delivery"] or 0)
            probes = [report] + ([run("floor", rate, min(1, settings.seconds), may_fail=True)] if frame_bytes else [])
            busiest = max(busy_share(report) for report in probes)
            is_whole = len(probes) == 2 and not any(map(loads.what_went_wrong, probes))
            if is_whole and (busiest <= BUSY_MAX or rate <= RATE_MIN):
                break
            if rate <= RATE_MIN:
                raise Broken(f"{key}: not whole at {rate:g} messages a second: {[loads.what_went_wrong(probe) for probe in probes]}")
            log(f"{row.name}: busy {busiest:.0%} at {rate:g} messages a second in each channel; half of it")
            rate /= 2
        pairs = []
        for number in range(settings.pairs):
            pair = {who: run(who, rate, settings.seconds) for who in (("tocsin", "floor") if number % 2 else ("floor", "tocsin"))}
            frame_bytes = round(pair["tocsin"]["wire_bytes_in_per_delivery"] or frame_bytes)
            figures = {who: pair[who]["server_cpu_us_per_delivery"] for who in pair}
            if not figures["tocsin"] or not figures["floor"]:
                raise Broken(f"{key}: nothing was delivered, or the server's processor time is not known: {pair}")
            pairs.append({
                "ratio": figures["tocsin"] / figures["floor"], "tocsin_us": figures["tocsin"], "floor_us": figures["floor"],
                "busiest": max(map(busy_share, pair.values())), "delivered": pair["tocsin"]["delivered"]})
            log(f"{row.name}, pair {number + 1}: floor {figures['floor']:.3f} us, Tocsin {figures['tocsin']:.3f} us, "
                f"{pairs[-1]['ratio']:.3f}")
        ratios = [pair["ratio"] for pair in pairs]
        figures = {
            "figure": median(ratios), "bar": row.bar, "unit": "x floor", "ratios": [round(ratio, 4) for ratio in ratios],
            "tocsin_us": median([pair["tocsin_us"] for pair in pairs]), "floor_us": median([pair["floor_us"] for pair in pairs]),
            "bytes_per_delivery": frame_bytes, "rate_per_channel": rate, "subscribers": settings.subscribers, "channels": channels,
            "delivered": sum(pair["delivered"] for pair in pairs), "busiest": round(max(pair["busiest"] for pair in pairs), 3)}
        detail = (f"{min(ratios):.2f} to {max(ratios):.2f}; floor {figures['floor_us']:.2f} us, "
                  f"Tocsin {figures['tocsin_us']:.2f} us, {frame_bytes} bytes, {settings.subscribers} subscribers at {rate:g}/s")
        return figures, f"{figures['figure']:.2f} x floor", f"{row.bar:.2f}", detail

    # Memory

    def memory(self, key, row, results):
        count = max(row.streams, round(self.settings.idle * row.share_of_idle))

        def idle(streams):
            return self.run(
                key, self.tocsin, transport=row.transport, is_tls=row.is_tls, streams=streams, subscribers=count, memory=True,
                settle=max(1, 4 * self.settings.settle))["memory"]["user_bytes_per_subscriber"]

        each = idle(row.streams)
        if row.streams > 1:
            # A connection with many streams is one that has its stream alone, and the further ones.
            alone = results.get("memory-h2-alone", {}).get("figure")
            alone = alone * 1024 if alone is not None else idle(1)
            each = (each * row.streams - alone) / (row.streams - 1)
        log(f"{row.name}: {each:.0f} bytes")
        figures = {"figure": round(each / 1024, 3), "bar": row.bar, "unit": "KB", "subscribers": count}
        return figures, f"{each / 1024:.2f} KB", f"{row.bar:g}", f"{count} subscribers"

    # Latency

    def latency(self, key, row):
        settings = self.settings
        options = {
            "transport": "websocket", "subscribers": settings.latency_subscribers, "rate": settings.latency_rate,
            "messages": round(settings.latency_rate * settings.latency_seconds), "settle": settings.settle}
        report = self.run(key, self.tocsin, **dict(options, messages=10))
        frame_bytes = round(report["wire_bytes_in_per_delivery"])
        makers = {"floor": lambda: self.floor(frame_bytes), "tocsin": self.tocsin}
        pairs = []
        for number in range(settings.pairs):
            order = ("tocsin", "floor") if number % 2 else ("floor", "tocsin")
            pair = {who: self.run(f"{key}, {who}", makers[who], **options)["latency_ms"] for who in order}
            pairs.append(pair)
            log(f"{row.name}, pair {number + 1}: floor {pair['floor']['p99_9']:.2f} ms, Tocsin {pair['tocsin']['p99_9']:.2f} ms")
        more = [pair["tocsin"]["p99_9"] - pair["floor"]["p99_9"] for pair in pairs]
        figures = {"figure": median(more), "bar": row.bar, "unit": "ms more than the floor", "pairs": [round(value, 3) for value in more],
                   "subscribers": settings.latency_subscribers, "rate": settings.latency_rate}
        for who in makers:
            figures[f"{who}_ms"] = {name: median([pair[who][name] for pair in pairs]) for name in ("p50", "p99", "p99_9")}
        spelled = ", ".join(
            f"{name} {'/'.join(format(figures[f'{who}_ms'][quantile], '.1f') for quantile in ('p50', 'p99', 'p99_9'))}"
            for name, who in (("floor", "floor"), ("Tocsin", "tocsin")))
        detail = f"p50/p99/p99.9 in ms: {spelled}; {settings.latency_subscribers} subscribers at {settings.latency_rate:g}/s"
        return figures, f"{figures['figure']:+.2f} ms", f"floor +{row.bar:g}", detail

    # Reconnecting

    def resume(self, key, row):
        settings = self.settings
        reports = []
        for number in range(settings.pairs):
            reports.append(self.run(
                key, self.tocsin, transport="websocket", is_tls=row.is_tls, subscribers=settings.resume_clients, rate=100, warm_up=2,
                messages=settings.resume_messages, resume=True, settle=settings.settle, full_handshakes=not row.has_tickets))
            log(f"{row.name}, run {number + 1}: {reports[-1]['resumed_seconds']:.2f} s")
        seconds = [report["resumed_seconds"] for report in reports]
        figures = {
            "figure": median(seconds), "bar": row.bar, "unit": "s", "runs": seconds, "clients": settings.resume_clients,
            "server_cpu_seconds": median([report["server_cpu_seconds"] for report in reports]),
            "generator_cpu_share": median([report["generator_cpu_share_of_a_core"] for report in reports])}
        detail = (f"{min(seconds):.2f} to {max(seconds):.2f} s; {settings.resume_clients} clients that missed {settings.resume_messages} "
                  f"messages; server CPU {figures['server_cpu_seconds']:.2f} s, load generator at {figures['generator_cpu_share']:.0%}")
        return figures, f"{figures['figure']:.2f} s", f"{row.bar:g}", detail

    # All

    def rows(self, keys):
        """Measures; yields for each row its key, figures and cells."""
        results = {}
        for key in keys:
            row = ROWS[key]
            measure = {FanOut: self.fan_out, Memory: self.memory, Latency: self.latency, Resume: self.resume}[type(row)]
            figures, *cells = measure(key, row, results) if isinstance(row, Memory) else measure(key, row)
            results[key] = figures
            yield key, figures, cells


def busy_share(report):
    """Of a processor: the server's or the load generator's, whichever is more."""
    return max(report["server_cpu_share_of_a_core"] or 0, report["generator_cpu_share_of_a_core"] or 0)


def median(values):
    return round(statistics.median(values), 4)


def log(text):
    print(text, file=sys.stderr, flush=True)


def compile_floor(folder):
    program = folder / "floor"
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(program), str(loads.FOLDER / "floor.c")], check=True)
    return program


def find_binary():
    named = os.environ.get("TOCSIN_BINARY")
    binary = pathlib.Path(named) if named else PROJECT / ".build" / "release" / "tocsin"
    if not os.access(binary, os.X_OK):
        raise Broken(f"no server at {binary}: build it with `swift build -c release`, or name one in TOCSIN_BINARY")
    return binary


def table(lines):
    lines = [("what", "figure", "bar", "met", ""), *lines]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[4]]).rstrip() for line in lines)


def chosen_rows(text):
    """Those that are named, or whose names begin so: `memory` stands for all of its rows."""
    if not text:
        return list(ROWS)
    chosen = []
    for name in text.split(","):
        found = [key for key in ROWS if key == name] or [key for key in ROWS if key.startswith(f"{name}-")]
        if name == "memory-h2":
            found = [key for key in ROWS if key.startswith("memory-h2")]
        if not found:
            raise Broken(f"no row is called {name}; there are {', '.join(ROWS)}")
        chosen += found
    return [key for key in ROWS if key in chosen]


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little load: shows that all works; its figures mean little")
    parser.add_argument("--only", help=f"rows, with commas between them: {', '.join(ROWS)}")
    parser.add_argument("--pairs", type=int, help="of runs, of which medians are taken (5; quick 1)")
    parser.add_argument("--rate", type=float, help="messages a second in each channel (20; quick 50); halved while a process is too busy")
    parser.add_argument("--subscribers", type=int, help="of the fan-out (5000; quick 200)")
    parser.add_argument("--pause", type=float, help="milliseconds between two looks of the load generator at its sockets (2)")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the figures, as JSON")
    return parser.parse_args()


def run(options, folder):
    settings = QUICK if options.quick else Settings()
    for name in ("pairs", "rate", "subscribers", "pause"):
        if getattr(options, name) is not None:
            setattr(settings, name, getattr(options, name))
    if settings.pairs < 1 or settings.subscribers < 10 or settings.rate <= 0:
        raise Broken("there is at least one pair, and ten subscribers, and a rate")
    bench = Bench(settings, find_binary(), folder)
    start = time.monotonic()
    lines, rows = [], {}
    for key, figures, (figure, bar, detail) in bench.rows(chosen_rows(options.only)):
        # With little load the publishing itself is most of what is measured.
        figures["met"] = None if options.quick else figures["figure"] <= figures["bar"]
        rows[key] = {"name": ROWS[key].name, **figures}
        lines.append((ROWS[key].name, figure, bar, {None: "-", True: "yes", False: "NO"}[figures["met"]], detail))
    print(table(lines))
    if bench.processors.are_shared:
        print("note: one processor for all: server and load generator took turns, the figures are not comparable with others")
    if bench.others > OTHERS_MAX and not options.quick:
        print(f"note: other processes, or the host, took up to {bench.others:.0%} of the machine's time")
    if options.out:
        document = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": loads.machine(),
            "seconds": round(time.monotonic() - start), "share_of_others": round(bench.others, 3), "settings": vars(settings), "rows": rows,
            "faults": bench.faults}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    for fault in bench.faults:
        print(f"not whole: {fault}", file=sys.stderr)
    return 1 if bench.faults else 0


def main():
    options = read_options()
    try:
        with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
            return run(options, folder)
    except (Broken, subprocess.CalledProcessError, OSError) as problem:
        log(f"bench: {problem}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
