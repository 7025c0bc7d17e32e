#!/usr/bin/env python3
"""Would sending through io_uring pay? The floor (floor.c) with one send() for each subscriber, and with batches in a ring.

Processor time: one process, the same sockets, every second message through the ring, so that a machine that is slower for a while is slower
for both; all of the process's time counts, that of its kernel threads too. Latency: runs of each alone, in pairs. Needs liburing-dev.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import bench
import loads


def compile_floor(folder):
    program = folder / "floor"
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-DWITH_URING"]
    subprocess.run(["cc", *flags, "-o", str(program), str(loads.FOLDER / "floor.c"), "-luring"], check=True)
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="16,64,256,1024,4096", help="frames with one system call")
    parser.add_argument("--subscribers", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--pairs", type=int, default=5, help="runs, and pairs of runs")
    parser.add_argument("--bytes", type=int, default=269, help="of a frame")
    parser.add_argument("--pause", type=float, default=2, help="milliseconds between two looks of the load generator at its sockets")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the figures, JSON")
    options = parser.parse_args()
    binary, processors = bench.find_binary(), loads.Processors()
    results = []
    with tempfile.TemporaryDirectory(prefix="tocsin-uring-") as name:
        folder = pathlib.Path(name)
        program = compile_floor(folder)

        def run(arguments, pause):
            log = folder / "floor.log"
            log.unlink(missing_ok=True)
            with bench.Floor(program, folder, options.bytes, processors.server, arguments) as server:
                report = loads.bench(
                    binary, server, processors.generator, transport="websocket", subscribers=options.subscribers, rate=options.rate,
                    messages=round(options.seconds * options.rate), pause=pause)
            fault = loads.what_went_wrong(report)
            if fault:
                raise loads.Broken(f"{arguments}: {fault}")
            return report, json.loads(log.read_text().splitlines()[-1])

        print(f"{'frames a call':>13} {'CPU, us':>8} {'send(), us':>10} {'ratio':>6}  {'runs':16} {'p99, ms':>8} {'send(), ms':>10}")
        for batch in map(int, options.batches.split(",")):
            runs = [run(["--uring", batch, "--alternate"], options.pause)[1] for _ in range(options.pairs)]
            alone = []
            for number in range(options.pairs):
                order = (batch, 0) if number % 2 else (0, batch)
                alone.append({which: run(["--uring", which], 0)[0]["latency_ms"]["p99"] for which in order})
            ratios = [one["ring_us"] / one["send_us"] for one in runs]
            result = {"batch": batch, "ratio": bench.median(ratios), "ratios": [round(ratio, 4) for ratio in ratios]}
            for name, which in (("ring", batch), ("send", 0)):
                result[f"{name}_us"] = bench.median([one[f"{name}_us"] for one in runs])
                result[f"{name}_p99_ms"] = bench.median([pair[which] for pair in alone])
            results.append(result)
            print(f"{batch:13} {result['ring_us']:8.2f} {result['send_us']:10.2f} {result['ratio']:6.3f}  "
                  f"{min(ratios):.3f} to {max(ratios):<7.3f} {result['ring_p99_ms']:8.2f} {result['send_p99_ms']:10.2f}", flush=True)
    if options.out:
        settings = {name: value for name, value in vars(options).items() if name not in ("out", "batches")}
        options.out.write_text(json.dumps({"machine": loads.machine(), "settings": settings, "batches": results}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except loads.Broken as fault:
        sys.exit(f"uring: {fault}")
