"""An attack, and what it may do to the server and to the others.

    warm-up round | quiet | the attack | all given back?
    ^               ^       ^            ^
    |               |       |            descriptors as before, memory as after the warm-up, no subscribers left over
    |               |       delays of the bystanders' messages
    |               delays without attack
    highest memory of both rounds, over what it was at first

The warm-up is the same attack: allocators keep some pages of what was used once, and a second round must add nothing to them.
"""

import concurrent.futures
import contextlib
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass

from bystanders import Bystanders, Figures
from support import Server, binary, eventually, http

MIB = 1 << 20
# Delays below this are not told apart from noise of the machine.
QUIET_FLOOR_MILLISECONDS = 5.0
DELAY_RATIO_MAX = 2.0
# The bystanders alone take less than this of a core.
IDLE_CPU_SHARE = 0.5
ROUNDS_MAX = 3
# What may be left over: the larger of the two.
LEFT_OVER_RATIO = 0.05
LEFT_OVER_BYTES = 4 * MIB


@dataclass
class Form:
    warm_up_seconds: float
    quiet_seconds: float
    attack_seconds: float
    asserts_delays: bool


SHORT = Form(warm_up_seconds=0.4, quiet_seconds=0.3, attack_seconds=1.0, asserts_delays=False)
LONG = Form(warm_up_seconds=5, quiet_seconds=5, attack_seconds=20, asserts_delays=True)

# One line for each attack, for the end of the run.
report = []


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    @property
    def left(self):
        return max(0.0, self.end - time.monotonic())

    @property
    def over(self):
        return time.monotonic() >= self.end

    def wait(self):
        time.sleep(self.left)


def served_flags():
    """What `tocsin serve --help` lists."""
    text = subprocess.run([binary(), "serve", "--help"], check=True, capture_output=True, text=True, timeout=30).stdout
    return set(re.findall(r"--[a-z-]+", text))


class WatchedServer(Server):
    """A server with bystanders. Knows what it holds when only they are there."""

    def __init__(self, certificate, form, flags=(), program=None):
        with replaced_binary(program):
            super().__init__(certificate, heartbeat=5, arguments=["--keep-messages", "1000", *flags])
        self.bystanders = None
        try:
            self.bystanders = Bystanders(self.port, sees_stalls=form.asserts_delays)
            self._prefer()
            self.descriptors_at_rest = eventually(self._steady, "the number of descriptors is steady")
        except BaseException:
            self.stop()
            raise

    def _prefer(self):
        """What is measured is the server, not what else the machine does. Only root may ask for it. Threads keep their order."""
        for process in (self.process, self.bystanders.process):
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                with contextlib.suppress(PermissionError, ProcessLookupError):
                    before = os.getpriority(os.PRIO_PROCESS, int(thread))
                    os.setpriority(os.PRIO_PROCESS, int(thread), before - 5)

    def _steady(self):
        first = self.descriptors()
        time.sleep(0.3)
        return first if self.descriptors() == first else 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        """What the process has used so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        """The numbers of /metrics by name and labels."""
        with http() as client:
            text = client.get(f"{self.url}/metrics").text
        return {name: float(value) for name, value in re.findall(r"^(tocsin_\S+) (\S+)$", text, re.MULTILINE)}

    def at_rest(self):
        """Waits until only the bystanders are left: no descriptor and no subscriber more, and no work for those that are gone."""
        eventually(lambda: self.descriptors() == self.descriptors_at_rest or self._words(), "the descriptors are those of before")

        def no_others():
            numbers = self.metrics()
            return all(numbers[f'tocsin_subscribers{{transport="{name}"}}'] <= 1 for name in ("websocket", "sse", "long_poll"))
        eventually(no_others, "no subscriber of the attackers is left")

        def is_idle():
            before = self.cpu_seconds()
            time.sleep(0.2)
            return self.cpu_seconds() - before <= IDLE_CPU_SHARE * 0.2
        eventually(is_idle, "the server no longer works for the attackers", seconds=15)

    def _words(self):
        assert self.alive, f"the server ended with {self.process.returncode}:\n{''.join(self.output[-40:])}"
        return False

    def stop(self):
        try:
            if self.bystanders:
                self.bystanders.stop()
        finally:
            status = super().stop()
        return status


@contextlib.contextmanager
def replaced_binary(program):
    """Servers are started through another program meanwhile."""
    if program is None:
        yield
        return
    before = os.environ.get("TOCSIN_BINARY")
    os.environ["TOCSIN_BINARY"] = str(program)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOCSIN_BINARY"]
        else:
            os.environ["TOCSIN_BINARY"] = before


def settled_memory(server):
    """Resident memory when it no longer shrinks."""
    lowest = server.resident()
    for _ in range(20):
        time.sleep(0.05)
        now = server.resident()
        if now >= lowest:
            return lowest
        lowest = now
    return lowest


class PeakMemory:
    """The highest resident memory while it is open."""

    def __init__(self, server):
        self.server = server
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while True:
            with contextlib.suppress(AssertionError, FileNotFoundError, ProcessLookupError):
                self.bytes = max(self.bytes, self.server.resident())
            if self._over.wait(0.02):
                return

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(5)


def attacker(work, server, form, seconds):
    # Attackers are on other machines: they do not take the processor away from the server and the bystanders. A thread that is only nice
    # is not interrupted at once when one of theirs has something to do, but some milliseconds later; an idle one is.
    if form.asserts_delays:
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
    else:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
    return work(server, Deadline(seconds))


def attack_once(server, form, attacks, seconds):
    with concurrent.futures.ThreadPoolExecutor(len(attacks)) as pool:
        running = [pool.submit(attacker, work, server, form, seconds) for work in attacks]
        return [one.result(timeout=seconds + 60) for one in running]


@dataclass
class Round:
    """What one round of an attack did."""

    quiet: Figures
    during: Figures
    words: list
    cpu_share: float
    peak: int
    before: int
    left_over: int

    @property
    def ratio(self):
        return self.during.p99 / max(self.quiet.p99, QUIET_FLOOR_MILLISECONDS)

    @property
    def allowed_left_over(self):
        return max(self.before * LEFT_OVER_RATIO, LEFT_OVER_BYTES)


def measured_round(server, form, attacks, seconds):
    server.bystanders.take()
    time.sleep(form.quiet_seconds)
    quiet = server.bystanders.take()
    before = settled_memory(server)
    cpu, began = server.cpu_seconds(), time.monotonic()
    with PeakMemory(server) as peak:
        words = attack_once(server, form, attacks, seconds)
        during = server.bystanders.take()
    share = (server.cpu_seconds() - cpu) / (time.monotonic() - began)
    assert quiet.count and during.count, "no message was measured"
    server.at_rest()
    done = Round(quiet, during, words, share, peak.bytes, before, 0)
    # Memory that is on its way back gets a moment.
    deadline = Deadline(3)
    while (left := server.resident() - before) > done.allowed_left_over and not deadline.over:
        time.sleep(0.1)
    done.left_over = left
    return done


def besiege(server, form, *attacks, name, growth_mib, seconds_min=0.0):
    """Runs an attack in two rounds, and checks what it does to the others and what it leaves behind.

    An attack is called with the server and a Deadline, in a thread of its own. It checks that the server gives the right answer, closes
    its sockets, and returns some words on what it did. `growth_mib` is how much more memory the server may use at any moment than before.

    A round that leaves something over, or (where delays are asserted) delays the others, is run again: a leak goes on, and what the
    allocator spreads out over more pages comes to an end; an attack that holds up the others does so again, and another program may not.
    """
    server.at_rest()
    at_first = settled_memory(server)
    with PeakMemory(server) as warm_peak:
        attack_once(server, form, attacks, max(form.warm_up_seconds, seconds_min))
    server.at_rest()
    peak = warm_peak.bytes
    for _ in range(ROUNDS_MAX):
        last = measured_round(server, form, attacks, max(form.attack_seconds, seconds_min))
        peak = max(peak, last.peak)
        growth = peak - at_first
        line = (f"{name}: quiet {last.quiet}; attacked {last.during}, worst {last.during.worst:.0f} ms, ratio {last.ratio:.1f}, "
                f"server {last.cpu_share:.0%} of a core; memory {at_first / MIB:.0f} MiB, at most {growth / MIB:+.1f}, "
                f"left over {last.left_over / MIB:+.1f}; {', '.join(last.words)}")
        report.append(line)
        print(line)
        is_slow = form.asserts_delays and last.ratio > DELAY_RATIO_MAX
        if last.left_over <= last.allowed_left_over and not is_slow or growth > growth_mib * MIB:
            break
    assert growth <= growth_mib * MIB, f"memory grew by {growth / MIB:.1f} MiB, more than {growth_mib} MiB"
    assert last.left_over <= last.allowed_left_over, (
        f"{last.left_over / MIB:.1f} MiB are not given back, more than {last.allowed_left_over / MIB:.1f} MiB")
    assert not is_slow, f"p99 {last.during.p99:.1f} ms under attack, {last.quiet.p99:.1f} ms without"
