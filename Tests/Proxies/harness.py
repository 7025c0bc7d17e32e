"""Runs everything: harness.py [--quick] [--only NAME,..] [--clients cli,node,..] [--scenarios NAME,..] [--write]."""

import argparse
import asyncio
import datetime
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scenarios
from clients import EVERY, KINDS, LIBRARY, Tools
from delivery import LONG, QUICK, deliver
from paths import all_ways
from probing import probe_way
from report import write
from server import ROOT, Server, program
from transports import TRANSPORTS

SCENARIOS = ["restart", "climb-back", "first-message", "tabs"]
# Bounds of the whole run, in seconds.
QUICK_SECONDS, LONG_SECONDS = 240, 2700


def arguments():
    parser = argparse.ArgumentParser(prog="Tests/Proxies/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer messages, several ways at a time; about two minutes")
    parser.add_argument("--only", type=names, help=f"of {', '.join(way.name for way in all_ways(False))}, or none")
    parser.add_argument("--clients", type=names, default=EVERY, help=f"of {', '.join(KINDS)}; by default {', '.join(EVERY)}")
    parser.add_argument("--scenarios", type=names, help=f"of {', '.join(SCENARIOS)}, or none")
    parser.add_argument("--no-delivery", action="store_true", help="no delivery by the ways")
    parser.add_argument("--no-probes", action="store_true", help="no single transports by the ways")
    parser.add_argument("--library", default=LIBRARY, help="the library for node and chromium")
    parser.add_argument("--write", action="store_true", help="put the tables into Docs/fallback.md, and the figures beside it")
    return parser.parse_args()


def names(text):
    return [name for name in text.split(",") if name]


class Run:
    """What is gathered, and said on the way."""

    def __init__(self, options):
        self.options = options
        self.faults = []
        self.began = time.monotonic()
        self.ways = [way for way in all_ways(options.quick) if options.only is None or way.name in options.only]
        unknown = set(options.only or []) - {*(way.name for way in self.ways), "none"}
        unknown |= set(options.clients) - set(KINDS)
        unknown |= set(options.scenarios or []) - {*SCENARIOS, "none"}
        if unknown:
            raise SystemExit(f"no such name: {', '.join(sorted(unknown))}")
        self.findings, self.outcomes, self.results = {}, {}, []
        self.extent = QUICK if options.quick else LONG
        self.idle = 0 if options.quick else 12

    def say(self, text):
        print(f"{time.monotonic() - self.began:6.1f} s  {text}"[:260], flush=True)

    async def whole(self):
        folder = Path(tempfile.mkdtemp(prefix="tocsin-proxies-"))
        # squid is not run as root, and has to reach its own folder below.
        folder.chmod(0o711)
        binary = program("tocsin", "TOCSIN_BINARY")
        if not binary:
            raise SystemExit("no server to test: build it (make release) or name it in TOCSIN_BINARY")
        tools = Tools(binary, folder, self.options.library)
        # In the long form heartbeats are the server's own, as at its users' places; in the short one silence is found sooner.
        server = await Server(binary, folder / "server", heartbeat=2 if self.options.quick else None).start()
        try:
            # The short form shares the machine among some; in the long one each has it for itself, for the sake of the figures.
            together = asyncio.Semaphore(5 if self.options.quick else 1)

            async def one(name, work):
                async with together:
                    try:
                        await work()
                    except Exception as fault:
                        self.faults.append(f"{name}: {fault!r}")
                        self.say(f"{name}: {fault!r}")

            works = [*self.by_the_ways(server, tools, folder), *self.by_scenarios(server, tools, folder)]
            await asyncio.gather(*(one(name, work) for name, work in works if name != "first message"))
            # The times to the first message are measured while nothing else goes on.
            for name, work in works:
                if name == "first message":
                    await one(name, work)
            if server.process.returncode is not None:
                self.faults.append(f"the server ended with {server.process.returncode}")
        finally:
            await tools.stop()
            await server.stop()
            if self.faults:
                self.say(f"what the server and the proxies said is in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def by_the_ways(self, server, tools, folder):
        """What is to be done for each way, with its name."""
        async def work(way):
            try:
                await way.start(server.port, folder)
                await self.one_way(server, tools, way)
            finally:
                await way.stop()

        return [(way.name, lambda way=way: work(way)) for way in self.ways]

    async def one_way(self, server, tools, way):
        if not self.options.no_probes:
            idle = max(self.idle, way.faults.get("cut_after", 0))
            found = await probe_way(server, way, idle)
            self.findings[way.name] = {finding.transport: finding.as_json() for finding in found}
            for finding in found:
                self.say(f"{way.name}, {finding.transport}: {finding}")
            if not any(finding.latencies for finding in found) and "silent" not in way.faults:
                self.faults.append(f"{way.name}: no transport gets through")
        if not self.options.no_delivery and self.options.clients:
            outcomes = await deliver(server, tools, way, self.options.clients, self.extent)
            self.outcomes[way.name] = [outcome.as_json() for outcome in outcomes]
            for outcome in outcomes:
                self.say(f"{way.name}, {outcome.client}: first message {outcome.first and round(outcome.first)} ms, "
                         f"{outcome.rung} after {outcome.rung_after and round(outcome.rung_after)} ms, {outcome.verdict}")
                if not outcome.good:
                    self.faults.append(f"{way.name}, {outcome.client}: {outcome.verdict}; {'; '.join(outcome.faults)}")

    def by_scenarios(self, server, tools, folder):
        """What is to be done for each scenario, with its name."""
        quick, kinds = self.options.quick, self.options.clients
        wanted = self.options.scenarios
        if wanted is None:
            wanted = [] if self.options.only else [name for name in SCENARIOS if not (quick and name == "climb-back")]
        making = []
        if "restart" in wanted:
            for how in ("drain", "kill"):
                making.append((f"restart ({how})", lambda how=how: scenarios.restart(tools, folder / f"restart-{how}", kinds, how, quick)))
        if "tabs" in wanted and "chromium" in kinds:
            making.append(("tabs", lambda: scenarios.tabs(server, tools, folder)))
        if "climb-back" in wanted:
            making.append(("climb-back", lambda: scenarios.climb_back(server, tools, kinds, folder)))
        if "first-message" in wanted:
            making.append(("first message", lambda: scenarios.first_messages(server, tools, kinds, folder, quick)))

        async def work(make):
            self.take(await make())

        return [(name, lambda make=make: work(make)) for name, make in making]

    def take(self, result):
        self.results.append(result)
        for row in result.rows:
            self.say(f"{result.name}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
        for fault in result.faults:
            self.say(f"{result.name}: {fault}")
            self.faults.append(f"{result.name}: {fault}")

    def as_json(self):
        order = [way.name for way in self.ways]
        return {
            "made": datetime.date.today().isoformat(), "versions": versions(), "count": self.extent.count, "idle_seconds": self.idle,
            "transports": list(TRANSPORTS), "ways": {way.name: way.about for way in self.ways},
            "findings": {name: self.findings[name] for name in order if name in self.findings},
            "outcomes": {name: self.outcomes[name] for name in order if name in self.outcomes},
            "scenarios": [vars(result) for result in self.results], "faults": self.faults,
        }


def versions():
    """The proxies and clients, with their versions."""
    asked = {"nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"], "squid": ["squid", "-v"], "Node": ["node", "--version"],
             "Chromium": ["chromium", "--version"], "mitmproxy": [str(Path(sys.executable).with_name("mitmdump")), "--version"]}
    found = []
    for name, line in asked.items():
        done = subprocess.run(line, capture_output=True, text=True, timeout=30)
        words = (done.stdout + done.stderr).replace("/", " ").split()
        number = next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "?")
        found.append(f"{name} {number}")
    return found


def main():
    options = arguments()
    run = Run(options)

    async def bounded():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        async with asyncio.timeout(QUICK_SECONDS if options.quick else LONG_SECONDS):
            await run.whole()

    try:
        asyncio.run(bounded())
    except TimeoutError:
        run.faults.append("the whole run took too long")
    except asyncio.CancelledError:
        raise SystemExit("ended by SIGTERM") from None
    if options.write:
        write(run.as_json(), ROOT / "Docs" / "fallback.md")
    for fault in run.faults:
        print(f"proxies: FAILED: {fault}"[:600], file=sys.stderr)
    passed = sum(outcome["good"] for outcomes in run.outcomes.values() for outcome in outcomes)
    passed += sum(not result.faults for result in run.results)
    print(f"{passed} passed, {len(run.faults)} failed", flush=True)
    sys.exit(1 if run.faults or not (passed or run.findings) else 0)


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    main()
