"""The runner: one line for each case, a summary, and exit status 1 if a case failed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from .table import CASES, Target, run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m http2", description="HTTP/2 conformance of a server")
    parser.add_argument("--url", default="http://127.0.0.1:8080/", help="what is asked for; default %(default)s")
    parser.add_argument("--tls", action="store_true", help="TLS with ALPN h2, as https in the URL; certificates are not checked")
    parser.add_argument("--only", action="append", metavar="ID", help="a case, section or suite, as http2/6.5/1 or hpack; repeatable")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="how long silence is waited out; default %(default)s")
    parser.add_argument("--exact", action="store_true", help="a closed connection does not stand for an error code")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--list", action="store_true", help="name the cases, and do not run them")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    wanted = options.only or [""]
    for name in options.only or []:
        if not any(case.is_within(name) for case in CASES.values()):
            print(f"no case is {name}", file=sys.stderr)
            return 2
    cases = [case for case in CASES.values() if any(not name or case.is_within(name) for name in wanted)]
    if options.list:
        for case in cases:
            print(f"{case.id}  {case.title} ({case.source})")
        return 0
    try:
        target = Target.at(options.url, options.tls, options.timeout, options.exact)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    began = time.monotonic()
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    counts: dict[str, list[int]] = {}
    results = []
    for case in cases:
        passed, detail = run(case, target)
        counts.setdefault(case.suite, [0, 0])[0 if passed else 1] += 1
        results.append({"id": case.id, "title": case.title, "result": "pass" if passed else "fail", "detail": detail})
        print(f"pass  {case.id}  {case.title}" if passed else f"FAIL  {case.id}  {case.title} ({case.source}): {detail}", flush=True)

    failed = sum(count[1] for count in counts.values())
    print()
    for suite, (passes, failures) in counts.items():
        print(f"{suite}: {passes + failures} cases, {passes} passed, {failures} failed")
    print(f"all: {len(results)} cases, {len(results) - failed} passed, {failed} failed, in {time.monotonic() - began:.1f} s")
    if options.json:
        options.json.write_text(json.dumps({"date": date, "cases": results}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
