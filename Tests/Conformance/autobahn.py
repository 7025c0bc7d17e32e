"""Runs the Autobahn testsuite (fuzzing client, all cases) against `tocsin serve --conformance`, and judges its report.

The testsuite needs Python 2.7, of which it makes an environment of its own (`.venv-autobahn`).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from server import Server

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-autobahn"
# autobahntestsuite's own list does not resolve any more: these fit together.
PACKAGES = [
    "txaio==2.1.0", "incremental==16.10.1", "pyOpenSSL==19.1.0", "cryptography==3.3.2", "Twisted==19.10.0", "zope.interface==4.6.0",
    "jinja2==2.11.3", "markupsafe==1.1.1", "Werkzeug==1.0.1", "klein==17.10.0", "service_identity==18.1.0", "unittest2==1.1.0",
    "six==1.16.0", "autobahn[twisted,accelerate]==0.10.9", "autobahntestsuite==25.10.1",
]
# What the suite itself says has no verdict.
INFORMATIONAL = "INFORMATIONAL"
SHORT = ["1.1.*", "2.*", "3.*", "4.*", "5.*", "6.4.*", "7.*", "12.1.1", "12.1.10", "13.1.1", "13.3.1", "13.7.1"]


def python27():
    """The interpreter: `python2.7`, or one that pyenv has; None if there is none."""
    found = shutil.which("python2.7")
    if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
        return found
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        for path in sorted(Path(root, "versions").glob("2.7*/bin/python2.7")):
            return str(path)
    return None


def install(interpreter):
    wanted = interpreter + "\n" + "\n".join(PACKAGES)
    mark = VENV / "wanted"
    if mark.exists() and mark.read_text() == wanted:
        return
    print("== conformance: making the Python 2.7 environment .venv-autobahn", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        # The last virtualenv that makes environments of Python 2.7.
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(Path(folder, "bin/pip")), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "virtualenv==20.21.1"], check=True)
        subprocess.run([str(Path(folder, "bin/virtualenv")), "-q", "-p", interpreter, str(VENV)], check=True)
    pip = [str(VENV / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "setuptools==44.0.0", "wheel==0.36.2"], check=True)
    subprocess.run([*pip, *PACKAGES], check=True)
    mark.write_text(wanted)


def run(url, cases, folder):
    """The report's index for our agent: by case, `behavior` and `behaviorClose`."""
    spec = {
        "options": {"failByDrop": False}, "outdir": str(folder / "report"), "servers": [{"agent": "tocsin", "url": url}],
        "cases": cases, "exclude-cases": [], "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    subprocess.run(
        [str(VENV / "bin/wstest"), "-m", "fuzzingclient", "-s", "spec.json"], cwd=folder, check=True, timeout=3000,
        stdout=open(folder / "log", "w"), stderr=subprocess.STDOUT,
    )
    return json.loads((folder / "report/index.json").read_text())["tocsin"]


def judge(index):
    """The cases that are not as they have to be."""
    wrong = []
    for case, found in index.items():
        # UNCLEAN is a close without the handshake, which the suite expects in a few cases; it then says OK of the close as well.
        if found["behavior"] not in ("OK", INFORMATIONAL) or found["behaviorClose"] not in ("OK", INFORMATIONAL):
            wrong.append((case, found["behavior"], found["behaviorClose"]))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cases", nargs="*", default=["*"])
    parser.add_argument("--short", action="store_true", help="some cases of each group")
    parser.add_argument("--where-possible", action="store_true", help="without Python 2.7, say so and end well")
    parser.add_argument("--json", help="where to keep the report's index")
    parser.add_argument("--keep", help="a folder for the whole report")
    options = parser.parse_args()
    interpreter = python27()
    if interpreter is None and options.where_possible:
        return print("Autobahn needs Python 2.7, which is not here: only the project's own WebSocket cases are run (unit tests, RFC 8441)")
    if interpreter is None:
        sys.exit("autobahn: there is no Python 2.7 here, which the testsuite needs (pyenv install 2.7.18)")
    install(interpreter)
    with tempfile.TemporaryDirectory() as temporary, Server(options.binary, "--conformance") as server:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        index = run(f"ws://127.0.0.1:{server.port}/echo", SHORT if options.short else options.cases, folder)
    counts = {}
    for found in index.values():
        counts[found["behavior"]] = counts.get(found["behavior"], 0) + 1
    wrong = judge(index)
    for case, behavior, close in sorted(wrong):
        print(f"{case}: {behavior}, close {close}")
    print(f"Autobahn: {len(index)} cases: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    if options.json:
        kept = {case: {key: found[key] for key in ("behavior", "behaviorClose", "remoteCloseCode")} for case, found in index.items()}
        order = sorted(kept, key=lambda case: [int(part) for part in case.split(".")])
        Path(options.json).write_text(
            json.dumps({"counts": counts, "cases": {case: kept[case] for case in order}}, indent=1) + "\n"
        )
    sys.exit(1 if wrong or not index else 0)


if __name__ == "__main__":
    main()
