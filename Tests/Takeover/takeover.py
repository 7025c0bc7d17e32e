#!/usr/bin/env python3
"""Restarts a server under load with `tocsin serve --takeover`, and counts what its clients notice of it.

Subscribers over every transport, publishers that never pause, and a prober that opens one connection after the other. Ends with 1 if
anything was lost, repeated or refused, or if the clients did not come back evenly. `--out` writes figures and a plot.
"""

import argparse
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from clients import CHANNEL, Load

PARTS_SECONDS = 5


class Server:
    """A server, and what it logged."""

    def __init__(self, binary, store, port, arguments):
        line = [binary, "serve", "--host", "127.0.0.1", "--port", str(port), "--store", store, "--loops", "2", *arguments]
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.log = []
        self.output = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        self.port = int(self.wait("listening")["port"])

    def read(self):
        for line in self.process.stderr:
            self.output.append(line)
            try:
                self.log.append(json.loads(line))
            except ValueError:
                pass

    def wait(self, message, seconds=60):
        end = time.monotonic() + seconds
        while True:
            for entry in list(self.log):
                if entry.get("message") == message:
                    return entry
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"the server did not say {message!r}:\n" + "".join(self.output[-20:]))
            time.sleep(0.02)


class Prober(threading.Thread):
    """Opens connections, one after the other, asks on each, and counts those that are not answered."""

    def __init__(self, port, pause):
        super().__init__(daemon=True)
        self.port, self.pause = port, pause
        self.count = 0
        self.faults = []
        self.longest = 0.0
        self.is_running = True

    def run(self):
        while self.is_running:
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw:
                    raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    if not raw.recv(64).startswith(b"HTTP/1.1 200"):
                        self.faults.append("no answer")
            except OSError as error:
                self.faults.append(str(error))
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1
            time.sleep(self.pause)


class Publisher(threading.Thread):
    """Publishes numbers on a connection that it keeps as long as the server lets it; asks again under the same key after a fault."""

    def __init__(self, port, name, per_second):
        super().__init__(daemon=True)
        self.port, self.name, self.pause = port, name, 1 / per_second
        self.sequences = []
        self.refusals = []
        self.again = 0
        self.longest = 0.0
        self.is_running = True

    def run(self):
        connection, number = None, 0
        while self.is_running:
            number += 1
            began = time.monotonic()
            while True:
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                        is_new = True
                    connection.request(
                        "POST", f"/v1/channels/{CHANNEL}", json.dumps({"from": self.name, "number": number}),
                        {"Content-Type": "application/json", "Idempotency-Key": f"{self.name}-{number}"})
                    answer = connection.getresponse()
                    body = answer.read()
                    if answer.will_close:
                        connection.close()
                        connection = None
                    if answer.status in (200, 201):
                        self.sequences.append(json.loads(body)["sequence"])
                        is_new = False
                        break
                    self.refusals.append(f"{answer.status} {body[:200]!r}")
                except (OSError, http.client.HTTPException) as error:
                    # A connection that was kept may be closed just when it is used again (RFC 9112, section 9.3.1).
                    if is_new:
                        self.refusals.append(repr(error))
                    self.again += 1
                    connection = None
                time.sleep(0.05)
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(max(0, self.pause - (time.monotonic() - began)))


def evenness(moments, over):
    """How far the times are from evenly spread: the Kolmogorov-Smirnov distance, and the fullest part of some seconds over the mean."""
    moments = sorted(moments)
    count = len(moments)
    if not count:
        return {"count": 0}
    distance = 0.0
    for place, moment in enumerate(moments):
        even = min(1.0, max(0.0, moment / over))
        distance = max(distance, abs(even - place / count), abs((place + 1) / count - even))
    width = PARTS_SECONDS if over >= 4 * PARTS_SECONDS else over / 6
    parts = [0] * max(1, round(over / width))
    for moment in moments:
        parts[min(len(parts) - 1, int(moment / width))] += 1
    return {"count": count, "ks_distance": round(distance, 4), "part_seconds": round(width, 3), "parts": parts,
            "max_over_mean": round(max(parts) * len(parts) / count, 3), "last_seconds": round(moments[-1], 2)}


def plot(returns, over, path, words):
    """Clients that have come back, in all and by second, as an SVG."""
    width, height, left, top = 760, 420, 60, 50
    inner, below = width - left - 30, height - top - 60
    every = sorted(moment for moments in returns.values() for moment in moments)
    total = len(every)
    end = max(over, every[-1] if every else over)
    x = lambda seconds: left + inner * seconds / end
    y = lambda part: top + below * (1 - part)
    steps = [sum(1 for moment in every if moment <= end * place / 200) / total for place in range(201)]
    line = " ".join(f"{x(end * place / 200):.1f},{y(part):.1f}" for place, part in enumerate(steps))
    bins = max(1, min(60, round(end)))
    counts = [0] * bins
    for moment in every:
        counts[min(bins - 1, int(moment * bins / end))] += 1
    scale = 2 * total / bins
    bars = "".join(
        f'<rect x="{x(end * place / bins) + 0.5:.1f}" y="{y(min(1, count / scale)):.1f}" width="{inner / bins - 1:.1f}" '
        f'height="{below * min(1, count / scale):.1f}" fill="#9ec5e8"/>' for place, count in enumerate(counts))
    marks = "".join(
        f'<text x="{x(end * part / 6):.0f}" y="{top + below + 20}" text-anchor="middle">{end * part / 6:.0f}</text>' for part in range(7))
    marks += "".join(
        f'<text x="{left - 8}" y="{y(part / 4) + 4:.0f}" text-anchor="end">{total * part // 4}</text>' for part in range(5))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/><text x="{left}" y="24" font-size="15">{words}</text>{bars}'
        f'<line x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(over):.1f}" y2="{y(1):.1f}" stroke="#888" stroke-dasharray="5 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#c23b22" stroke-width="2"/>'
        f'<path d="M{left} {top}V{top + below}H{left + inner}" fill="none" stroke="black"/>{marks}'
        f'<text x="{left + inner / 2}" y="{height - 14}" text-anchor="middle">seconds since the first was told to go; line: come back, '
        'dashed: evenly; bars: in each part, half the height is the mean</text></svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--over", type=int, default=60, help="seconds")
    parser.add_argument("--rate", type=float, default=2, help="publications a second of each of two publishers")
    parser.add_argument("--connects", type=float, default=500, help="connections a second at the beginning")
    parser.add_argument("--patience", type=int, default=180, help="seconds in all, besides what is expected")
    parser.add_argument("--out", help="figures and plot go to this path, with .json and .svg")
    parser.add_argument("--keep", action="store_true", help="show the servers' logs")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else soft, hard))

    def give_up(*_):
        raise SystemExit("it does not come to an end")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(options.over + options.patience + int(options.clients / options.connects))

    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "log.sqlite")
        arguments = ["--drain", str(options.over), "--heartbeat", "25"]
        old = Server(options.binary, store, 0, arguments)
        servers = [old]
        try:
            figures, load = run(options, old, servers, store, arguments)
        finally:
            for server in servers:
                if server.process.poll() is None:
                    server.process.kill()
                server.process.wait()
            if options.keep:
                for server in servers:
                    sys.stderr.write("".join(server.output))
    print(json.dumps(figures, indent=1))
    if options.out:
        Path(options.out + ".json").write_text(json.dumps(figures, indent=1) + "\n")
        every = figures["returns"]["all"]
        plot(load.returns, options.over, Path(options.out + ".svg"),
             f"{every['count']} clients come back after a takeover: KS distance {every['ks_distance']}, "
             f"fullest part {every['max_over_mean']} of the mean")
    for fault in figures["faults"]:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if figures["faults"] else 0


def run(options, old, servers, store, arguments):
    load = Load(old.port, options.clients)
    load.start(options.connects)
    publishers = [Publisher(old.port, f"p{number}", options.rate) for number in range(2)]
    for publisher in publishers:
        publisher.start()
    patience = 60 + options.clients / options.connects
    if not load.until(lambda: all(one.is_live and one.last is not None for one in load.all), patience):
        raise SystemExit(f"not everybody is served: {load.counts} {load.faults}")
    before = dict(load.counts)
    prober = Prober(old.port, 0.005)
    prober.start()
    load.turn(2)

    began = time.monotonic()
    successor = lambda: servers.append(Server(options.binary, store, old.port, [*arguments, "--takeover"]))
    threading.Thread(target=successor, daemon=True).start()
    load.until(lambda: len(servers) == 2, 60)
    new = servers[1]
    ready = time.monotonic() - began
    # Everybody is back, and the old one has gone.
    load.until(lambda: old.process.poll() is not None and load.began and not load.due, options.over + 60)
    gone = time.monotonic() - began
    load.turn(2)
    prober.is_running = False
    for publisher in publishers:
        publisher.is_running = False
    for thread in [prober, *publishers]:
        thread.join(40)
    sequences = sorted(sequence for publisher in publishers for sequence in publisher.sequences)
    last = sequences[-1]
    load.until(lambda: all(one.last == last for one in load.all), 60)

    behind = sum(1 for one in load.all if one.last != last)
    counts = {**load.counts, "behind": behind}
    held = next((entry for entry in old.log if entry.get("message") == "the log has changed hands"), {})
    every = [moment for moments in load.returns.values() for moment in moments]
    figures = {
        "clients": {name: len(some) for name, some in load.subscribers.items()}, "over_seconds": options.over,
        "counts": counts, "before_the_takeover": {name: before[name] for name in ("refused", "dropped", "answers")},
        "client_faults": load.faults,
        "published": len(sequences), "publish_refusals": [why for publisher in publishers for why in publisher.refusals],
        "publish_longest_seconds": round(max(publisher.longest for publisher in publishers), 3),
        "probes": prober.count, "probes_refused": len(prober.faults), "probe_longest_seconds": round(prober.longest, 3),
        "start_of_the_new_one_seconds": round(ready, 2), "publications_held_ms": int(held.get("held_ms", -1)),
        "old_one_ended_after_seconds": round(gone, 1), "old_one_status": old.process.poll(),
        "returns": {"all": evenness(every, options.over)}
        | {name: evenness(moments, options.over) for name, moments in load.returns.items()},
    }
    faults = [f"{name}: {counts[name]}" for name in ("lost", "repeated", "gaps", "refused", "dropped", "answers", "behind") if counts[name]]
    if sequences != list(range(1, last + 1)):
        faults.append("sequences of what was published are not 1, 2, 3, ...")
    if prober.faults:
        faults.append(f"probes: {prober.faults[:5]}")
    if figures["publish_refusals"]:
        faults.append(f"publications refused: {figures['publish_refusals'][:5]}")
    if old.process.poll() != 0:
        faults.append(f"the old server ended with {old.process.poll()}")
    if len(every) < options.clients // 4 * 4:
        faults.append(f"only {len(every)} clients were told when to come back")
    # The distance of so many even draws from evenly spread is below 1.95 / sqrt(n) in 999 of 1000; slots are far more even.
    if every and figures["returns"]["all"]["ks_distance"] > max(0.05, 1.95 / len(every) ** 0.5):
        faults.append(f"clients do not come back evenly: {figures['returns']['all']}")
    figures["faults"] = faults
    load.close()
    new.process.send_signal(signal.SIGKILL)
    return figures, load


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
