"""Alert rules, dashboard and metrics: promtool, and a Prometheus that scrapes a server that works."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx_sse
import pytest
import websockets.sync.client

from support import ROOT, connect, eventually, exchange, http, publish, publish_many, query, trusting_context

OPERATIONS = ROOT / "Docs" / "operations"
TRANSPORTS = ("websocket", "sse", "long_poll")
KINDS = ("alerts", "scores", "dashboards", "plain")


def figures(server):
    """The metrics by name and labels as they are written."""
    with http() as client:
        text = client.get(f"{server.url}/metrics").text
    return {name: float(value) for name, value in re.findall(r"^(tocsin_\S+) (\S+)$", text, re.MULTILINE)}


def promtool(*arguments, **options):
    assert shutil.which("promtool"), "promtool is missing; Tests/Interop/run installs the Debian package prometheus"
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, **options)


def alerts():
    """Their names, and the pages that they point to."""
    text = (OPERATIONS / "alerts.yml").read_text()
    return list(zip(re.findall(r"- alert: (\w+)", text), re.findall(r'runbook: "(\S+)"', text), strict=True))


def dashboard():
    return json.loads((OPERATIONS / "dashboard.json").read_text())


def dashboard_queries():
    return [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def names(expression):
    """The metrics that an expression names."""
    return sorted(set(re.findall(r"\b(?:tocsin_[a-z0-9_]+|up)\b(?=\s*[{\[)=<>]|\s|$)", re.sub(r'"[^"]*"', '""', expression))))


# The files.

def test_promtool_finds_nothing_wrong_with_the_rules():
    answer = promtool("check", "rules", str(OPERATIONS / "alerts.yml"))
    assert answer.returncode == 0 and f"{len(alerts())} rules found" in answer.stdout, answer.stdout + answer.stderr


def test_promtool_finds_rules_that_are_wrong(tmp_path):
    text = (OPERATIONS / "alerts.yml").read_text().replace("histogram_quantile(", "histogram_quantil(")
    (tmp_path / "alerts.yml").write_text(text)
    assert promtool("check", "rules", str(tmp_path / "alerts.yml")).returncode != 0


def test_each_alert_fires_when_it_should_and_not_before():
    answer = promtool("test", "rules", "alerts_test.yml", cwd=OPERATIONS)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_alert_has_a_test_and_a_page():
    tests = (OPERATIONS / "alerts_test.yml").read_text()
    fired = set(re.findall(r"- alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n\s+- exp_labels", tests))
    page = (OPERATIONS / "README.md").read_text()
    assert len(alerts()) > 10
    for name, runbook in alerts():
        assert name in fired, f"no test has {name} fire"
        assert f"### {name}\n" in page, f"README.md does not say what to do about {name}"
        assert runbook == f"Docs/operations/README.md#{name.lower()}"


def test_promtool_takes_the_example_configuration(tmp_path):
    answer = promtool("check", "config", str(OPERATIONS / "prometheus.yml"))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_dashboard_is_one_that_grafana_can_import():
    board = dashboard()
    assert board["title"] == "Tocsin" and board["schemaVersion"] >= 36
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and len(dashboard_queries()) > 40
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


def webhook(folder):
    """Arguments of a server that would tell somebody of what happens, if anything did."""
    path = folder / "whsec"
    path.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    return ["--webhook", "w=http://127.0.0.1:9/", "--webhook-secret", f"w={path}"]


def test_the_page_explains_each_metric_that_the_server_has(start_server, tmp_path):
    server = start_server(canary=True, arguments=webhook(tmp_path))
    page = (OPERATIONS / "README.md").read_text()
    with http() as client:
        text = client.get(f"{server.url}/metrics").text
    for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE):
        explained = name in page or re.sub(r"_[a-z]+_total$", "_*_total", name) in page
        assert explained, f"README.md does not explain {name}"


@pytest.mark.parametrize("processes", [1, 2])
def test_promtool_finds_nothing_wrong_with_the_metrics(start_server, tmp_path, processes):
    server = start_server(canary=True, arguments=[*webhook(tmp_path), "--processes", str(processes), "--loops", "1"])
    with http() as client:
        text = client.get(f"{server.url}/metrics").text
    answer = promtool("check", "metrics", input=text)
    assert answer.returncode == 0, answer.stdout + answer.stderr


# The queries, against a server that works.

@contextlib.contextmanager
def prometheus(folder, targets):
    """A Prometheus that scrapes these ports each second; yields a function that asks it something."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(OPERATIONS / "alerts.yml")],
        "scrape_configs": [{"job_name": "tocsin", "static_configs": [{"targets": [f"127.0.0.1:{target}" for target in targets]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, trust_env=False) as client:
            def ask(path, **items):
                try:
                    answer = client.get(path, params=items)
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
                    return None
                return answer.json()["data"] if answer.status_code == 200 else None
            yield ask
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def keep_polling(server, channel, stop, version="1.1"):
    """A long-poll client, until it is told to stop; answers how many messages it got."""
    count, after = 0, None
    with http(version) as client:
        while not stop:
            url = f"{server.url}/v1/subscribe?{query(channel, after=after)}"
            body = client.get(url, headers={"Prefer": "wait=1"}).json()
            after = body["position"]
            count += len(body["messages"])
    return count


@contextlib.contextmanager
def subscribers(server, channels):
    """A WebSocket, an event stream and a long-poll that take what comes on these channels."""
    stop = []
    with ThreadPoolExecutor(3) as pool, contextlib.ExitStack() as stack:
        socket_ = stack.enter_context(websockets.sync.client.connect(
            f"ws://127.0.0.1:{server.port}/v1/subscribe?{query(channels)}", proxy=None, subprotocols=["tocsin.v1"]))
        client = stack.enter_context(http(timeout=None))
        source = stack.enter_context(httpx_sse.connect_sse(client, "GET", f"{server.url}/v1/subscribe?{query(channels)}"))

        def read_socket():
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                for _ in socket_:
                    pass

        def read_stream():
            with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
                for _ in source.iter_sse():
                    if stop:
                        return

        work = [pool.submit(read_socket), pool.submit(read_stream), pool.submit(keep_polling, server, channels, stop)]
        try:
            yield
        finally:
            stop.append(True)
            socket_.close()
            # The stream sees the end with its next heartbeat.
            for part in work:
                part.result(timeout=15)


def work(server, seconds):
    """Something of everything that there are figures for."""
    channels = [f"{kind if kind != 'plain' else 'news'}.operations" for kind in KINDS]
    with subscribers(server, channels):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for channel in channels:
                publish(server, channel, {"x": 1}, key="k")
            with http() as client:
                client.get(f"{server.url}/v1/channels/{channels[0]}/history")
                refused = client.get(f"{server.url}/v1/channels/{channels[0]}", headers={"Origin": "https://elsewhere.example"})
                assert refused.status_code == 403
            time.sleep(0.05)
    answer, _ = exchange(server.port, b"NO HTTP\r\n\r\n")
    assert answer.status_code == 400


def test_each_query_of_the_rules_and_the_dashboard_has_a_result(start_server, tmp_path):
    one = start_server(canary=True, arguments=webhook(tmp_path))
    several = start_server(canary=True, arguments=("--processes", "2", "--loops", "1", *webhook(tmp_path)))
    with prometheus(tmp_path, [one.port, several.port]) as ask:
        for server in (one, several):
            work(server, 2)
        eventually(lambda: (ask("query", query='count(up{job="tocsin"} == 1)') or {}).get("result"), "both are scraped", seconds=30)
        # Rates want a second scrape after the first that has the figure.
        work(one, 3)

        def results(expression):
            found = ask("query", query=expression)
            assert found is not None, f"Prometheus does not take {expression}"
            return found["result"]

        for title, expression in dashboard_queries():
            expression = expression.replace("$__rate_interval", "30s").replace("$job", "tocsin").replace("$instance", ".*")
            assert "$" not in expression, f"{title}: {expression}"
            assert eventually(lambda: results(expression), f"{title}: {expression}", seconds=10)
        states = {rule["name"]: rule for group in ask("rules")["groups"] for rule in group["rules"]}
        assert sorted(states) == sorted(name for name, _ in alerts())
        for alert, state in states.items():
            assert state["health"] == "ok" and not state.get("lastError"), (alert, state)
            assert state["state"] != "firing", f"{alert} fires though all is well: {state}"
            assert names(state["query"]), state
            for name in names(state["query"]):
                assert eventually(lambda: results(name), f"{alert}: {name}", seconds=10)
        for variable in dashboard()["templating"]["list"][1:]:
            selector = re.match(r"label_values\((.*), \w+\)", variable["definition"])[1].replace("$job", "tocsin")
            assert results(selector), variable["definition"]


# What the figures say.

def test_the_time_from_publishing_to_writing_is_known_by_transport_and_kind(start_server):
    server = start_server(canary=True)
    time.sleep(1.5)

    def count(transport, kind, name="count"):
        return figures(server)[f'tocsin_publish_to_write_seconds_{name}{{transport="{transport}",kind="{kind}"}}']

    assert all(count(transport, kind) == 0 for transport in TRANSPORTS for kind in KINDS), "the canary counts"
    for kind in KINDS:
        channel = f"{kind if kind != 'plain' else 'news'}.one"
        with subscribers(server, [channel]):
            for number in range(5):
                eventually(lambda: figures(server)['tocsin_subscribers{transport="long_poll"}'] == 1, "the poll waits")
                publish(server, channel, number)
        for transport in TRANSPORTS:
            assert count(transport, kind) >= 4, (transport, kind)
            assert 0 < count(transport, kind, "sum") < 60
    # Once for each message, however many loops; who is still sent the hello when the first one comes reads that one by itself.
    totals = {kind: count("websocket", kind) for kind in KINDS}
    assert all(4 <= total <= 5 for total in totals.values()), totals


def test_a_slow_reader_is_counted_as_congested_and_behind(start_server):
    server = start_server(canary=True)
    channel = "news.slow"
    with connect(server.port, receive_buffer=4096) as slow:
        slow.sendall(f"GET /v1/subscribe?channel={channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        eventually(lambda: figures(server)['tocsin_subscribers{transport="sse"}'] == 1, "it subscribes")
        publish_many(server, [(channel, "x" * 2000) for _ in range(4000)])
        found = eventually(
            lambda: (now := figures(server))["tocsin_congested_subscribers"] == 1 and now["tocsin_cursor_lag_max"] > 100 and now,
            "it is congested and behind")
        assert found['tocsin_cursor_lag_subscribers{upto="100"}'] == 0
        assert found['tocsin_cursor_lag_subscribers{upto="+Inf"}'] == 1
        slow.settimeout(0.5)

        def read_on():
            with contextlib.suppress(TimeoutError):
                while slow.recv(1 << 20):
                    pass
            now = figures(server)
            return now["tocsin_congested_subscribers"] == 0 and now["tocsin_cursor_lag_max"] == 0 and now

        found = eventually(read_on, "it has read all", seconds=60)
        assert found['tocsin_cursor_lag_subscribers{upto="0"}'] == 1


def test_connections_are_counted_by_what_they_are(start_server):
    server = start_server(canary=True)

    def states():
        found = re.compile(r'tocsin_connection_states\{state="(\w+)",tls="(\w+)"\}')
        return {found.match(name).groups(): value for name, value in figures(server).items() if found.match(name) and value}

    own = ("request", "false")
    assert states() == {own: 1}
    with contextlib.ExitStack() as stack:
        where = f"127.0.0.1:{server.port}/v1/subscribe?channel=news.a"
        stack.enter_context(websockets.sync.client.connect(f"ws://{where}", proxy=None))
        stack.enter_context(websockets.sync.client.connect(
            f"wss://127.0.0.1:{server.tls_port}/v1/subscribe?channel=news.a", proxy=None, ssl=trusting_context()))
        client = stack.enter_context(http())
        stack.enter_context(client.stream("GET", f"http://{where}", headers={"Accept": "text/event-stream"}))
        second = stack.enter_context(http("2"))
        stack.enter_context(second.stream("GET", f"http://{where}", headers={"Accept": "text/event-stream"}))
        idle = stack.enter_context(http())
        idle.get(f"{server.url}/healthz")
        poll = stack.enter_context(connect(server.port))
        poll.sendall(b"GET /v1/subscribe?channel=news.a&after=latest HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n")
        silent = stack.enter_context(connect(server.port))
        half = stack.enter_context(connect(server.port))
        half.sendall(b"GET /v1")
        wanted = {
            own: 2, ("websocket", "false"): 1, ("websocket", "true"): 1, ("event_stream", "false"): 1, ("http2", "false"): 1,
            ("idle", "false"): 1, ("parked_poll", "false"): 1, ("opening", "false"): 1,
        }
        eventually(lambda: states() == wanted, f"{wanted}; {states()}")
        found = figures(server)
        for (state, tls), count in wanted.items():
            held = found[f'tocsin_connection_state_bytes{{state="{state}",tls="{tls}"}}']
            assert 2000 * count < held < 100_000 * count, (state, tls, held)
        with_tls, without = (found[f'tocsin_connection_state_bytes{{state="websocket",tls="{tls}"}}'] for tls in ("true", "false"))
        assert with_tls > without + 10_000
        assert found["tocsin_connections"] == sum(wanted.values())
        silent.close()
    eventually(lambda: states() == {own: 1}, "all are gone")


def test_feeds_have_figures_and_cannot_make_them_grow(start_server):
    server = start_server(canary=True)
    publish(server, "scores.a", {"x": 1})
    publish(server, "scores.b", {"x": 1})
    found = figures(server)
    assert found['tocsin_feed_notifications_total{feed="scores",kind="scores"}'] == 2
    assert found['tocsin_feed_notifications_total{feed="alerts",kind="alerts"}'] == 0
    assert found['tocsin_feed_bytes_total{feed="scores",kind="scores"}'] > 100
    with contextlib.ExitStack() as stack:
        for channels in (["scores.a"], ["scores.*", "alerts.x"], [">"]):
            stack.enter_context(websockets.sync.client.connect(
                f"ws://127.0.0.1:{server.port}/v1/subscribe?{query(channels)}", proxy=None))
        found = figures(server)
        assert [found[f'tocsin_feed_subscriptions{{feed="{feed}"}}'] for feed in ("scores", "alerts", "*")] == [2, 1, 1]
    publish_many(server, [(f"feed{number}.a", 1) for number in range(200)])
    found = figures(server)
    rows = [name for name in found if name.startswith("tocsin_feed_notifications_total")]
    assert len(rows) == 33
    assert found['tocsin_feed_notifications_total{feed="other",kind="plain"}'] == 200 - 29
    assert found['tocsin_feed_notifications_total{feed="feed0",kind="plain"}'] == 1
    eventually(lambda: figures(server)['tocsin_feed_subscriptions{feed="scores"}'] == 0, "the subscribers are gone")


@pytest.mark.parametrize("processes", [1, 3])
def test_the_figures_are_those_of_all_processes(start_server, processes):
    server = start_server(canary=True, arguments=("--processes", str(processes), "--loops", "1"))
    channel = "scores.all"
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(websockets.sync.client.connect(
            f"ws://127.0.0.1:{server.port}/v1/subscribe?channel={channel}", proxy=None)) for _ in range(12)]
        for number in range(10):
            publish(server, channel, number)
        for socket_ in sockets:
            seen = 0
            while seen < 10:
                seen += json.loads(socket_.recv(10))["type"] == "notification"
        found = eventually(lambda: (now := figures(server))['tocsin_connection_states{state="websocket",tls="false"}'] == 12 and now,
                           "all are counted")
        count = found['tocsin_publish_to_write_seconds_count{transport="websocket",kind="scores"}']
        assert 10 <= count <= 10 * processes
        assert found['tocsin_publish_to_write_seconds_bucket{transport="websocket",kind="scores",le="+Inf"}'] == count
        assert found['tocsin_feed_notifications_total{feed="scores",kind="scores"}'] == 10
        assert found['tocsin_feed_subscriptions{feed="scores"}'] == 12
        assert found['tocsin_cursor_lag_subscribers{upto="0"}'] == 12
        assert found['tocsin_deliveries_total{transport="websocket"}'] == 120
        assert all(found[f'tocsin_canary_failed{{transport="{transport}"}}'] == 0 for transport in TRANSPORTS)
