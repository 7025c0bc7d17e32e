"""`tocsin compare --quick`: that it measures every transport, loses nothing, and says what it found. How large its figures are is not
looked at. The networks need root, ip and /dev/net/tun; without them these tests fail, as they should."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from support import binary, eventually

TRANSPORTS = [
    "websocket", "websocket-h2", "sse", "sse-h2", "sse-h2-shared", "long-poll", "long-poll-h2", "poll-1s", "poll-5s",
]
VERDICTS = {"held", "did not hold", "depends"}
SECONDS_MAX = 170

pytestmark = pytest.mark.timeout(180)


def namespaces():
    """Of comparisons."""
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10, check=True)
    return {line.split()[0] for line in done.stdout.splitlines() if line.startswith("tocsin-compare-")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a quick comparison."""
    folder = tmp_path_factory.mktemp("comparison") / "new"
    line = [binary(), "compare", "--quick", "--out", str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=SECONDS_MAX)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors[-3000:]
    assert not output
    assert "left" in errors and "done" in errors
    assert not {name for name in namespaces() if name.startswith(f"tocsin-compare-{process.pid}-")}
    return folder


@pytest.fixture(scope="module")
def comparison(made):
    return json.loads((made / "comparison.json").read_text())


def wire_is_plausible(wire, least, most):
    assert least <= wire["bytes_in"] <= most and 0 <= wire["bytes_out"] <= most, wire
    assert 0 < wire["segments_in"] < 1000 and 0 < wire["segments_out"] < 1000, wire


def quantiles_are_plausible(times):
    assert times["count"] > 0
    assert 0 < times["p50"] <= times["p99"] <= times["p999"] <= times["max"] < 60_000, times


def test_every_transport_has_every_figure(comparison):
    assert comparison["is_quick"] and comparison["missing"] == []
    assert [figures["transport"] for figures in comparison["transports"]] == TRANSPORTS
    for figures in comparison["transports"]:
        polls = "poll" in figures["transport"]
        assert [handshake["tls"] for handshake in figures["handshakes"]] == [False, True]
        plain, tls = (handshake["wire"] for handshake in figures["handshakes"])
        wire_is_plausible(plain, 50, 20_000)
        wire_is_plausible(tls, 500, 60_000)
        assert tls["bytes_in"] > plain["bytes_in"]
        assert [round(run["rate"], 2) for run in figures["rates"]] == [0.33, 1, 10, 100]
        for run in figures["rates"]:
            quantiles_are_plausible(run["latency"])
            # A poll may bring many at once.
            assert 128 < run["wire"]["bytes_in"] < 5000
            # A poll asks; others answer pings at most.
            assert run["wire"]["bytes_out"] > 1 if polls else run["wire"]["bytes_out"] < 50
            assert 0 < run["cpu_per_message"] < 1e6
        quantiles_are_plausible(figures["resume"])
        assert 0 < figures["memory"]["user"] < 1 << 20
        assert figures["idle"]["seconds"] > 1 and figures["idle"]["cpu"] >= 0
        assert figures["idle"]["wire"]["bytes_in"] > 0


def test_nothing_is_lost_or_repeated(comparison):
    deliveries = [run["delivery"] for figures in comparison["transports"] for run in figures["rates"]]
    deliveries += [cell["delivery"] for shape in comparison["shapes"] for cell in shape["cells"]]
    assert len(deliveries) > 9 * 4
    for delivery in deliveries:
        assert delivery["delivered"] == delivery["expected"] > 0
        assert (delivery["lost"], delivery["repeated"], delivery["reordered"]) == (0, 0, 0)


def test_the_networks_are_as_long_as_they_say(comparison):
    assert comparison["shapes"], comparison["shapes_by"]
    assert "TUN" in comparison["shapes_by"]
    for shape in comparison["shapes"]:
        trip = shape["round_trip_milliseconds"]
        assert [(cell["transport"], cell["tls"]) for cell in shape["cells"]] == [(id, tls) for tls in (False, True) for id in TRANSPORTS]
        for cell in shape["cells"]:
            # Nothing comes sooner than its way takes: round trips of TCP, TLS and the request; half of one for a message.
            trips = (3 if cell["transport"] == "websocket-h2" else 2) + cell["tls"]
            assert cell["handshake"]["p50"] >= trips * trip
            assert cell["latency"]["p50"] >= trip / 2
            assert cell["resume"]["p50"] >= trips * trip
            quantiles_are_plausible(cell["latency"])
            wire_is_plausible(cell["handshake_wire"], 50, 60_000)


def test_every_claim_has_a_verdict_its_rule_and_its_figures(comparison):
    assert len(comparison["claims"]) == 5
    for claim in comparison["claims"]:
        assert claim["verdict"] in VERDICTS, claim
        assert len(claim["rule"]) > 50 and claim["figures"]
        speaking = [figure["speaks_for"] for figure in claim["figures"]]
        assert claim["verdict"] == ("held" if all(speaking) else "depends" if any(speaking) else "did not hold")


def test_the_page_needs_nothing_else(made, comparison):
    page = (made / "comparison.html").read_text()
    assert not re.search(r"https?:|src\s*=|url\(|@import|<script|<link|<iframe", page)
    assert page.count("<svg") > 15
    table = (made / "comparison.md").read_text()
    for claim in comparison["claims"]:
        assert claim["text"] in page and claim["text"] in table
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", table.lower())


def test_the_pages_are_made_anew_from_the_figures(made, tmp_path):
    done = subprocess.run(
        [binary(), "compare", "--render", str(made / "comparison.json"), "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    for name in ("comparison.md", "comparison.html"):
        assert (tmp_path / name).read_text() == (made / name).read_text()
    assert not (tmp_path / "comparison.json").exists()


def test_what_is_not_a_comparison_is_refused(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text("{}")
    for name in (path, tmp_path / "none.json"):
        done = subprocess.run(
            [binary(), "compare", "--render", str(name), "--out", str(tmp_path)], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0 and done.stderr
    assert not (tmp_path / "comparison.html").exists()


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [binary(), "compare", "--quick", "--out", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    own = f"tocsin-compare-{process.pid}-"
    children = []
    try:
        for line in process.stderr:
            if "network of" in line:
                break
        time.sleep(1)
        assert {name for name in namespaces() if name.startswith(own)}
        children = [int(number) for number in
                    subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, timeout=10).stdout.split()]
        assert children
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGINT
    assert not {name for name in namespaces() if name.startswith(own)}
    eventually(lambda: not any(os.path.exists(f"/proc/{child}") for child in children), "its processes end")
    assert not list(tmp_path.iterdir())
