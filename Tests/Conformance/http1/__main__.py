"""Makes inputs, has every parser read them, and fails where Tocsin accepts what another reads otherwise."""

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from . import selfcheck
from .compare import KNOWN, Case, Difference, differences, explain
from .corpus import Corpus
from .readings import OracleFailed, Reading, read_with_h11, read_with_httptools, read_with_oracle

SHOWN_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="http1", description=__doc__)
    parser.add_argument("--oracle", required=True, type=Path, help="the built executable HTTP1Oracle")
    parser.add_argument("--count", type=int, default=20000, help="so many inputs (20000)")
    parser.add_argument("--seed", type=int, default=1, help="of the changes (1)")
    options = parser.parse_args()
    started = time.monotonic()
    blind = selfcheck.failures()
    if blind:
        print("http1: the comparison is blind:", *blind, sep="\n  ", file=sys.stderr)
        return 1
    inputs = list(Corpus(options.seed).inputs(options.count))
    try:
        answers = read_with_oracle(str(options.oracle.resolve()), inputs)
    except (OSError, OracleFailed) as error:
        print(f"http1: {error}", file=sys.stderr)
        return 1
    report = Report()
    for data, (ours, nio) in zip(inputs, answers, strict=True):
        report.add(data, ours, {"nio": nio, "h11": read_with_h11(data), "httptools": read_with_httptools(data)})
    report.print()
    print(f"http1: seed {options.seed}, {time.monotonic() - started:.1f} s")
    return 0 if report.passed else 1


class Report:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.known: Counter[tuple[str, str]] = Counter()
        self.unexplained: list[Case] = []
        # By Tocsin's reason for refusing: how often another parser did not refuse.
        self.stricter: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, data: bytes, ours: Reading, others: dict[str, Reading]) -> None:
        self.counts["inputs"] += 1
        self.counts["requests"] += len(ours.requests)
        self.counts[ours.end.split(":")[0]] += 1
        why = ours.end.removeprefix("refused: ")
        if ours.refused:
            self.stricter[why]["all"] += 1
        for name, theirs in others.items():
            self.counts[name + " requests"] += len(theirs.requests)
            if ours.refused and (not theirs.refused or len(theirs.requests) > len(ours.requests)):
                self.stricter[why][name] += 1
            for found in differences(ours, theirs):
                self.judge(Case(name, data, ours, theirs, found))

    def judge(self, case: Case) -> None:
        known = explain(case)
        if known:
            self.known[known.name, case.name] += 1
        else:
            self.unexplained.append(case)

    @property
    def passed(self) -> bool:
        return not self.unexplained and self.reaches_parsers

    @property
    def reaches_parsers(self) -> bool:
        """Whether every parser reads a request in every fifth input at least; else little has been compared."""
        names = ("requests", "nio requests", "h11 requests", "httptools requests")
        return all(self.counts[name] >= self.counts["inputs"] / 5 for name in names)

    def print(self) -> None:
        counts = self.counts
        print(f"{counts['inputs']} inputs: {counts['complete']} complete, {counts['incomplete']} incomplete, {counts['refused']} refused")
        print(f"requests read: {counts['requests']}; nio {counts['nio requests']}, h11 {counts['h11 requests']}, ", end="")
        print(f"httptools {counts['httptools requests']}")
        print("\nTocsin refuses, and another does not (all refused; nio, h11, httptools):")
        for why, each in sorted(self.stricter.items()):
            print(f"  {why:36}{each['all']:7}{each['nio']:7}{each['h11']:7}{each['httptools']:7}")
        print("\nknown differences (nio, h11, httptools):")
        for known in KNOWN:
            each = [self.known[known.name, name] for name in ("nio", "h11", "httptools")]
            print(f"  {known.name:36}{each[0]:7}{each[1]:7}{each[2]:7}  {known.reason}")
        if not self.reaches_parsers:
            print("\ntoo few requests were read")
        self.print_unexplained()

    def print_unexplained(self) -> None:
        print(f"\nunexplained differences: {len(self.unexplained)}")
        kinds = Counter((case.name, case.found.what, case.theirs.end) for case in self.unexplained)
        for (name, what, end), count in kinds.most_common(SHOWN_MAX):
            print(f"  {count:6} {name}: {what}, {end}"[:140])
        for case in self.unexplained[:SHOWN_MAX]:
            print_case(case)


def print_case(case: Case) -> None:
    found: Difference = case.found
    print(f"\n{case.name} differs in {found.what} of request {found.index}")
    print(f"  bytes  {case.data!r}")
    print(f"  tocsin {found.ours!r}")
    print(f"  {case.name:6} {found.theirs!r}")


if __name__ == "__main__":
    sys.exit(main())
