#!/usr/bin/env python3
"""The same loads on Tocsin and on nchan (a module of nginx), by the same load generator, in turns.

Each run has a server of its own, fresh, with one event loop on the last processor; the load generator has the others. A pair is a run of
each right after the other, and who comes first changes. What stands in the table is the median of the runs, and the median of the ratios
of the pairs.

Times are reported, not judged: the exit status is 1 only if a message was lost, came twice or out of order, or if something did not work.
"""

import argparse
import datetime
import getpass
import grp
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import loads
from loads import Broken

NCHAN_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PEERS = ("tocsin", "nchan")
# Name, transport, streams a connection, TLS.
LOADS = (
    ("WebSocket", "websocket", 1, False),
    ("SSE, HTTP/1.1", "sse", 1, False),
    ("SSE, HTTP/2, 1 stream", "sse-h2", 1, False),
    ("SSE, HTTP/2, 100 streams", "sse-h2", 100, False),
    ("long-poll", "long-poll", 1, False),
    ("WebSocket, TLS", "websocket", 1, True),
    ("SSE, HTTP/2, TLS, 100 streams", "sse-h2", 100, True),
)
# Name, path in the report, unit, digits.
FIGURES = (
    ("CPU per delivery", ("server_cpu_us_per_delivery",), "us", 2),
    ("latency p50", ("latency_ms", "p50"), "ms", 2),
    ("latency p99", ("latency_ms", "p99"), "ms", 2),
    ("latency p99.9", ("latency_ms", "p99_9"), "ms", 2),
    ("bytes in", ("wire_bytes_in_per_delivery",), "B", 0),
    ("bytes out", ("wire_bytes_out_per_delivery",), "B", 0),
    ("user memory", ("memory", "user_bytes_per_subscriber"), "B", 0),
    ("all subscribed", ("subscribed_seconds",), "s", 3),
)

NGINX = """
load_module {module};
daemon off;
worker_processes 1;
user {user} {group};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile {descriptors};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    http2_max_concurrent_streams 1000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 128M;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{http2} http2 backlog=4096;
        listen 127.0.0.1:{tls} ssl http2 backlog=4096;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location ~ ^/pub/([a-z0-9-]+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 100; }}
        location ~ ^/sub/([a-z0-9-]+)$ {{ nchan_subscriber; nchan_channel_id $1; nchan_subscriber_first_message newest; }}
    }}
}}
"""


class Nchan(loads.Server):
    """With one worker."""

    profile = loads.PROFILES / "nchan.json"

    def __init__(self, _, folder, certificate, cpus):
        plain, http2, tls = loads.free_ports(3)
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(
            module=NCHAN_MODULE, user=getpass.getuser(), group=grp.getgrgid(os.getgid()).gr_name, folder=folder, plain=plain, http2=http2,
            tls=tls, certificate=certificate[0], key=certificate[1], descriptors=20000, connections=19000))
        # TLS: one port speaks both, by ALPN. Plain: nginx 1.22 needs a port for each.
        ports = {(False, False): plain, (True, False): http2, (False, True): tls, (True, True): tls}
        command = ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)]
        super().__init__(command, ports, cpus, folder / "nginx.log")

    @property
    def processes(self):
        """The worker: the process that serves. The master only waits."""
        deadline = time.monotonic() + loads.START_SECONDS
        while True:
            path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            workers = [int(word) for word in path.read_text().split()]
            if workers:
                return workers[:1]
            if time.monotonic() > deadline:
                raise Broken("nginx has no worker")
            time.sleep(0.02)


def run(options, peer, load, folder, certificate, processors):
    """One run: a fresh server, one load; answers the load generator's report."""
    _, transport, streams, is_tls = load
    server_of = {"tocsin": loads.Tocsin, "nchan": Nchan}[peer]
    with server_of(options.binary, folder, certificate, processors.server) as server:
        return loads.bench(
            options.binary, server, processors.generator, transport=transport, is_tls=is_tls, streams=streams,
            subscribers=options.subscribers, channels=options.channels, rate=options.rate, messages=options.messages,
            payload=options.payload, publishers=1)


def value_of(report, path):
    value = report
    for name in path:
        value = value[name]
    return value


def compare(options, load, folder, certificate, processors):
    """The pairs of a load; answers its figures and what went wrong."""
    reports = {peer: [] for peer in PEERS}
    faults = []
    for pair in range(options.pairs):
        for peer in PEERS if pair % 2 == 0 else PEERS[::-1]:
            report = run(options, peer, load, folder, certificate, processors)
            reports[peer].append(report)
            fault = loads.what_went_wrong(report)
            if fault:
                faults.append(f"{load[0]}, {peer}: {fault}")
    figures = []
    for name, path, unit, digits in FIGURES:
        values = {peer: [value_of(report, path) for report in reports[peer]] for peer in PEERS}
        figure = {"figure": name, "unit": unit, "digits": digits}
        figure.update({peer: None if None in values[peer] else statistics.median(values[peer]) for peer in PEERS})
        ratios = [ours / theirs for ours, theirs in zip(values["tocsin"], values["nchan"]) if ours is not None and theirs]
        figure["ratio"] = statistics.median(ratios) if ratios else None
        figures.append(figure)
    return {"load": load[0], "transport": load[1], "streams": load[2], "tls": load[3], "figures": figures, "runs": reports}, faults


def say_table(result, *, with_head):
    def cell(value, digits):
        return "not known" if value is None else f"{value:.{digits}f}"

    if with_head:
        print(f"{'load':30} {'figure':22} {'tocsin':>10} {'nchan':>10} {'ratio':>7}", flush=True)
    for index, figure in enumerate(result["figures"]):
        name = result["load"] if index == 0 else ""
        print(f"{name:30} {figure['figure'] + ', ' + figure['unit']:22} {cell(figure['tocsin'], figure['digits']):>10} "
              f"{cell(figure['nchan'], figure['digits']):>10} {cell(figure['ratio'], 2):>7}", flush=True)


def nginx_version():
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="tocsin, optimised")
    parser.add_argument("--out", help="a file for the figures, JSON")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--payload", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", help="loads whose names have this in them")
    options = parser.parse_args()
    if not shutil.which("nginx") or not NCHAN_MODULE.exists():
        sys.exit("nginx with nchan is missing; `make bench-peers` installs the Debian package libnginx-mod-nchan")
    chosen = [load for load in LOADS if not options.only or options.only.lower() in load[0].lower()]
    if not chosen:
        sys.exit(f"no load has {options.only!r} in its name: {', '.join(load[0] for load in LOADS)}")
    processors = loads.Processors()
    results, faults = [], []
    print(f"{options.subscribers} subscribers, {options.channels} channels, {options.rate:g} messages/s of {options.payload} bytes, "
          f"medians of {options.pairs} pairs", flush=True)
    with tempfile.TemporaryDirectory(prefix="tocsin-peers-") as name:
        folder = pathlib.Path(name)
        certificate = loads.make_certificate(folder)
        for load in chosen:
            result, wrong = compare(options, load, folder, certificate, processors)
            say_table(result, with_head=not results)
            results.append(result)
            faults += wrong
    if options.out:
        document = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {**loads.machine(), "peer": nginx_version()},
            "settings": {name: getattr(options, name) for name in ("subscribers", "channels", "rate", "messages", "payload", "pairs")},
            "loads": results,
        }
        pathlib.Path(options.out).write_text(json.dumps(document, indent=2) + "\n")
    for fault in faults:
        print(f"not whole: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    try:
        main()
    except Broken as fault:
        sys.exit(f"peers: {fault}")
