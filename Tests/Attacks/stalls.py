"""When the machine itself stood still: a host of many machines takes the processor away for milliseconds to seconds.

A process for each processor, above everything else on it, sleeps for 2 ms at a time. What it oversleeps, no program of this machine has
taken from it. Run as a program (`stalls.py PROCESSOR`) it writes a line `BEGIN END` for each stall, in nanoseconds of the monotonic clock.
"""

import bisect
import os
import subprocess
import sys
import time
from pathlib import Path

PERIOD = 2_000_000
# What the kernel may do by itself in between, such as a batch of arrived packets.
STALL_MIN = 3_000_000


class Stalls:
    """Watches all processors that this process may use. Without the right to go before others it sees nothing."""

    def __init__(self):
        self.found = []
        self.buffers = {}
        self.processes = []

    def start(self):
        for processor in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, str(Path(__file__).resolve()), str(processor)]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
        for process in self.processes:
            os.set_blocking(process.stdout.fileno(), False)
            self.buffers[process] = b""

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()
        self.processes = []

    def collect(self):
        """Reads what the processes have written by now; answers the stalls since the last time, joined where they overlap."""
        found = []
        for process in self.processes:
            while piece := process.stdout.read(65536):
                self.buffers[process] += piece
            whole, _, self.buffers[process] = self.buffers[process].rpartition(b"\n")
            found += [tuple(map(int, line.split())) for line in whole.splitlines()]
        return joined(found)


def joined(intervals):
    """The union of intervals, in order."""
    union = []
    for begin, end in sorted(intervals):
        if union and begin <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], end)
        else:
            union.append((begin, end))
    return union


def stalled_within(union, begin, end):
    """How much of the time from `begin` to `end` lies in the intervals."""
    first = max(0, bisect.bisect_left(union, (begin, 0)) - 1)
    total = 0
    for stall_begin, stall_end in union[first:]:
        if stall_begin >= end:
            break
        total += max(0, min(end, stall_end) - max(begin, stall_begin))
    return total


def watch(processor):
    parent = os.getppid()
    os.sched_setaffinity(0, {processor})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(80))
    except PermissionError:
        return
    while os.getppid() == parent:
        for _ in range(500):
            due = time.monotonic_ns() + PERIOD
            time.sleep(PERIOD / 1e9)
            now = time.monotonic_ns()
            if now - due > STALL_MIN:
                print(due, now, flush=True)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
