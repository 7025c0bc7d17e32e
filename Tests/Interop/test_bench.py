"""`tocsin bench` against the server: that its counts are right. How large its figures are is not looked at."""

import json
import subprocess
import time

import pytest

from support import ROOT, binary

TRANSPORTS = ["websocket", "websocket-h2", "sse", "sse-h2", "long-poll", "long-poll-h2", "poll"]
SECONDS_MAX = 90


def command(server, transport, *, tls=False, **options):
    options = {"subscribers": 24, "channels": 3, "rate": 120, "messages": 90, "payload": 200, "warm_up": 15, "settle": 0.1, **options}
    line = [binary(), "bench", "--url", server.tls_url if tls else server.url, "--transport", transport, "--pid", server.process.pid]
    for name, value in options.items():
        line += ["--" + name.replace("_", "-")] + ([] if value is True else [value])
    return [str(part) for part in [*line, "--json", "-"]]


def bench(server, transport, **options):
    """Runs it to its end; answers its exit status and its report."""
    done = subprocess.run(command(server, transport, **options), capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.stdout, f"no report: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_lost_or_repeated(server, transport, tls):
    status, report = bench(server, transport, tls=tls, streams=5, threads=2, poll_seconds=0.2)
    assert status == 0, report
    assert report["whole"] and report["delivered"] == report["expected"] == 24 * (90 + 15) // 3
    assert (report["lost"], report["repeated"], report["reordered"], report["foreign"], report["subscribers_ended"]) == (0, 0, 0, 0, 0)
    assert report["published"] == {"sent": 105, "accepted": 105, "refused": 0, "unanswered": 0, "unsent": 0}
    assert report["tls"] == tls and report["connections"] == (5 if transport.endswith("-h2") else 24)
    # Those that warm up are not timed.
    assert report["latency_ms"]["count"] == report["measured_deliveries"] == 24 * 90 // 3
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99_9"] <= latency["max"] < 1000 * SECONDS_MAX
    assert report["publisher_late_ms"]["max"] <= latency["max"]
    assert report["server_cpu_us_per_delivery"] > 0
    # The payload and what is around it; a poll also asks again.
    assert 200 < report["wire_bytes_in_per_delivery"] < 1500
    polls = "poll" in transport
    assert (report["wire_bytes_out_per_delivery"] > 10) == polls
    assert report["segments_in_per_delivery"] > 0 and report["segments_out_per_delivery"] > 0
    handshake = report["handshake"]
    assert handshake["connections"] == report["connections"]
    # A certificate and its signature are some hundreds of bytes.
    assert (500 if tls else 50) < handshake["bytes_in"] < 5000 and 50 < handshake["bytes_out"] < 5000
    assert handshake["segments_in"] >= 2 and handshake["segments_out"] >= 2
    assert 0 < handshake["ms"]["p50"] <= handshake["ms"]["max"]
    # 90 messages at 120 a second are due within 0.74 s, and the schedule does not wait.
    assert report["measured_seconds"] > 89 / 120


def test_batches_arrive_as_single_messages_do(server):
    status, report = bench(server, "websocket", batch=15, publishers=4)
    assert status == 0, report
    assert report["delivered"] == report["expected"] == 24 * (90 + 15) // 3
    assert report["published"] == {"sent": 105, "accepted": 105, "refused": 0, "unanswered": 0, "unsent": 0}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_all_come_back_and_get_what_they_missed(server, transport, tls):
    status, report = bench(server, transport, tls=tls, resume=True, threads=2, messages=30)
    assert status == 0, report
    assert report["delivered"] == report["expected"] == 24 * (30 + 15) // 3
    assert report["resumed_ms"]["count"] == 24
    # The histogram keeps three digits, rounded up; the seconds are written with three decimals.
    assert 0 < report["resumed_ms"]["max"] <= 1001 * report["resumed_seconds"] + 1 < 1000 * SECONDS_MAX


def test_who_comes_back_to_the_wrong_place_is_seen(server, tmp_path):
    """With a position that is always the beginning, messages come again; without one, what was missed is lost."""
    for place, count in (("&after=earliest", "repeated"), ("", "lost")):
        profile = json.loads((ROOT / "Tests/Bench/profiles/tocsin.json").read_text())
        profile["resume"]["path"] = "/v1/subscribe?channel={channel}" + place
        path = tmp_path / "profile.json"
        path.write_text(json.dumps(profile))
        status, report = bench(server, "websocket", profile=path, resume=True, patience=0.5)
        assert status == 1 and not report["whole"]
        assert report[count] > 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_was_missed_while_cut_off_comes_once(server, transport, tls):
    status, report = bench(server, transport, tls=tls, streams=5, threads=2, poll_seconds=0.2, cut=6)
    assert status == 0, report
    assert report["whole"] and report["delivered"] == report["expected"] == 24 * (90 + 15 + 6) // 3
    # Those of the cut are not timed with the others.
    assert report["latency_ms"]["count"] == report["measured_deliveries"] == 24 * 90 // 3
    resume = report["resume_ms"]
    assert resume["count"] == 24
    assert 0 < resume["p50"] <= resume["max"] < 1000 * SECONDS_MAX


def test_what_idle_subscribers_cost(server):
    cost = {}
    for transport in ("sse", "poll"):
        status, report = bench(server, transport, poll_seconds=0.2, idle=2)
        assert status == 0, report
        cost[transport] = report["idle"]
        assert report["idle"]["seconds"] > 1.9
    # A heartbeat a second, against five polls.
    assert 1 < cost["sse"]["bytes_in"] < 50 and cost["sse"]["bytes_out"] == 0
    assert cost["poll"]["bytes_in"] > 5 * 50 and cost["poll"]["bytes_out"] > 5 * 50
    assert cost["poll"]["server_cpu_us_per_subscriber_second"] > cost["sse"]["server_cpu_us_per_subscriber_second"] > 0


def test_memory_alone(fresh_server):
    done = subprocess.run([*command(fresh_server, "sse", subscribers=200), "--memory"], capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["memory"]["user_bytes_per_subscriber"] < 1 << 20
    assert "delivered" not in report


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_ends_in_the_midst_is_a_loss(start_server, transport):
    server = start_server()
    process = subprocess.Popen(
        command(server, transport, messages=600, warm_up=1, patience=1, poll_seconds=0.2),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # The last line before what is timed.
        for line in process.stderr:
            if line.startswith("warmed up"):
                break
        time.sleep(1)
        server.kill()
        output, errors = process.communicate(timeout=SECONDS_MAX)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, errors
    report = json.loads(output)
    assert not report["whole"]
    assert report["subscribers_ended"] == 24 and report["first_end"]
    assert 0 < report["delivered"] < report["expected"]
    assert report["lost"] == report["expected"] - report["delivered"] > 0


def test_what_is_refused_is_lost(server, tmp_path):
    """A feed of the server's own cannot be published to."""
    profile = json.loads((ROOT / "Tests/Bench/profiles/tocsin.json").read_text())
    profile["publish"]["path"] = "/v1/channels/_bench"
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    status, report = bench(server, "sse", profile=path, patience=0.5)
    assert status == 1
    assert report["published"]["refused"] == report["published"]["sent"] == 105
    assert report["lost"] == report["expected"] > 0


def test_no_server_and_too_many_subscribers_are_said(server):
    wrong = [
        ({"subscribers": 50_000_000}, "descriptors"), ({"payload": 10}, "payload"),
        ({"streams": 9999, "subscribers": 9999}, "--streams is 9999"),
    ]
    for options, words in wrong:
        done = subprocess.run(command(server, "sse-h2", **options), capture_output=True, text=True, timeout=SECONDS_MAX)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    line = command(server, "sse")
    line[line.index("--url") + 1] = "http://127.0.0.1:1"
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 1 and "could not" in done.stderr, done.stderr
