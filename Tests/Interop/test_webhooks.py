"""Webhooks: a receiver of its own, which verifies each signature twice, and what comes to it: once more rather than never."""

import base64
import contextlib
import datetime
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time

import pytest
import standardwebhooks

from support import Endpoint, Server, eventually, http, make_certificate, publish
from test_limits import attempt, connect_from
from test_processes import figures
from test_store import fill, small_disk

QUICK = ["--webhook-retries", "200ms,300ms,400ms,500ms,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"]
PROCESSES = [1, 2]
each_count_of_processes = pytest.mark.parametrize("processes", PROCESSES)


def make_secret(size=32):
    return "whsec_" + base64.b64encode(secrets.token_bytes(size)).decode()


class Receiver(Endpoint):
    """Takes events. A test may have it answer something else, by attempt or for good."""

    def __init__(self, secret, port=0, context=None):
        self.secret = secret
        self.answers, self.status, self.fields, self.delay, self.body = [], 204, {}, 0, b""
        self.attempts = []
        self.lock = threading.Lock()
        self.most, self.active = 0, 0
        super().__init__(self._take, port=port, context=context)

    def verify(self, fields, body):
        """By hand, and by the library of Standard Webhooks."""
        identity, stamp = fields["webhook-id"], fields["webhook-timestamp"]
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        wanted = "v1," + base64.b64encode(hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
        assert wanted in fields["webhook-signature"].split(" ")
        assert abs(int(stamp) - time.time()) < 30
        standardwebhooks.Webhook(self.secret).verify(body.decode(), fields)
        return identity

    def _take(self, method, path, fields, body):
        fields = {name.lower(): value for name, value in fields.items()}
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            try:
                assert method == "POST" and fields["content-type"] == "application/json"
                identity = self.verify(fields, body)
                event = json.loads(body)
                assert set(event) == {"type", "timestamp", "data"}
                fault = None
            except Exception as error:
                identity, event, fault = None, None, repr(error)
            time.sleep(self.delay)
            with self.lock:
                status, more = self.answers.pop(0) if self.answers else (self.status, self.fields)
                self.attempts.append({"id": identity, "event": event, "status": status, "fault": fault, "at": time.monotonic()})
            return status, more, self.body
        finally:
            with self.lock:
                self.active -= 1

    @property
    def taken(self):
        """Events that were answered with 2xx."""
        assert [attempt["fault"] for attempt in self.attempts if attempt["fault"]] == []
        return [attempt["event"] for attempt in list(self.attempts) if 200 <= attempt["status"] < 300]

    def of(self, kind):
        return [event for event in self.taken if event["type"] == kind]

    def wait(self, kind, count=1, seconds=10):
        return eventually(lambda: len(self.of(kind)) >= count and self.of(kind), f"{count} {kind}", seconds=seconds)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "whsec"
    path.write_text(make_secret() + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def receiver(secret):
    with Receiver(secret.read_text().strip()) as receiver:
        yield receiver


@pytest.fixture
def start(start_server, receiver, secret):
    def started(*arguments, processes=1, events=None, after="300ms", url=None, **options):
        line = ["--webhook", f"w={url or receiver.url + '/events?key=1'}", "--webhook-secret", f"w={secret}", *QUICK,
                "--alert-unread-after", after, "--alert-user", "alerts.user.{sub}.>", "--drain", "1"]
        if events:
            line += ["--webhook-events", f"w={events}"]
        if processes > 1:
            line += ["--processes", str(processes), "--loops", "1"]
        return start_server(arguments=[*line, *arguments], certificate=None, **options)
    return started


def ack(server, user, channel, sequence, **more):
    with http() as client:
        answer = client.post(f"{server.url}/v1/acks", json={"user": user, "channel": channel, "sequences": [sequence], **more})
    assert answer.status_code == 200, answer.text


def timestamp(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def unread(receiver):
    """The alerts that were told of, as they are told apart."""
    return [(event["data"]["channel"], event["data"]["sequence"], event["data"]["user"]) for event in receiver.of("alert.unread")]


def webhook_figure(server, name, **labels):
    text = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return figures(server)[f"tocsin_webhook_{name}" + (f"{{{text}}}" if text else "")]


def said(server, message):
    return [entry for entry in list(server.log) if entry.get("message", "").startswith(message)]


# Alerts that nobody reads.

@each_count_of_processes
def test_an_alert_that_is_unread_is_told_of_once(start, receiver, processes):
    server = start(processes=processes)
    began = time.time()
    publish(server, "alerts.user.anna.disk", {"disk": "full"}, key="disk", event="raised", priority="high")
    event = receiver.wait("alert.unread")[0]
    data = event["data"]
    assert began + 0.29 < timestamp(event["timestamp"]) < began + 8
    assert began - 1 < timestamp(data.pop("time")) < began + 2
    assert data == {"channel": "alerts.user.anna.disk", "sequence": 1, "user": "anna", "event": "raised", "key": "disk",
                    "priority": "high", "data": {"disk": "full"}}
    time.sleep(2.5)
    assert len(receiver.attempts) == 1
    assert receiver.asked[0][1] == "/events?key=1"
    eventually(lambda: webhook_figure(server, "sent_total", event="alert.unread") == 1, "it is counted")
    assert webhook_figure(server, "waiting", event="alert.unread") == 0 and webhook_figure(server, "oldest_age_seconds") == 0


@each_count_of_processes
def test_one_that_was_read_dismissed_replaced_or_has_expired_is_not(start, receiver, processes):
    server = start(processes=processes, after="3s")
    channel = "alerts.user.anna.a"
    for number in range(1, 5):
        publish(server, channel, number, key=f"k{number}", **({"ttl": 1} if number == 4 else {}))
    publish(server, channel, 5, key="new", replaces="k3")
    ack(server, "anna", channel, 1)
    ack(server, "anna", channel, 2, dismiss=True)
    assert receiver.wait("alert.unread")
    time.sleep(1.5)
    assert unread(receiver) == [(channel, 5, "anna")]


def test_who_has_read_something_of_a_channel_is_one_of_its_readers(start, receiver):
    server = start(after="2s")
    publish(server, "alerts.team", 1)
    ack(server, "anna", "alerts.team", 1)
    ack(server, "otto ü", "alerts.team", 1)
    publish(server, "alerts.team", 2)
    ack(server, "anna", "alerts.team", 2)
    receiver.wait("alert.unread")
    time.sleep(1.5)
    assert unread(receiver) == [("alerts.team", 2, "otto ü")]


def test_a_large_payload_is_not_sent_along_and_a_binary_one_says_so(start, receiver):
    server = start()
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/alerts.user.anna.b", content=b"\0\1",
                             headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 201
    publish(server, "alerts.user.anna.c", "x" * 20_000)
    events = {event["data"]["channel"]: event["data"] for event in receiver.wait("alert.unread", 2)}
    assert events["alerts.user.anna.b"]["encoding"] == "base64" and events["alerts.user.anna.b"]["data"] == "AAE="
    assert events["alerts.user.anna.c"]["data_bytes"] == 20_002 and "data" not in events["alerts.user.anna.c"]


@each_count_of_processes
def test_unread_across_a_kill(start, receiver, tmp_path, processes):
    store = ["--store", str(tmp_path / "log.sqlite")]
    server = start(*store, processes=processes, after="2s")
    publish(server, "alerts.user.anna.a", 1)
    publish(server, "alerts.user.otto.a", 1)
    ack(server, "otto", "alerts.user.otto.a", 1)
    server.kill()
    time.sleep(1)
    server = start(*store, processes=processes, after="2s")
    receiver.wait("alert.unread")
    time.sleep(1.5)
    assert unread(receiver) == [("alerts.user.anna.a", 1, "anna")]
    server.stop()
    start(*store, processes=processes, after="2s")
    time.sleep(2.5)
    assert len(receiver.attempts) == 1


# Receivers that are away, slow or unwilling.

def test_a_receiver_that_was_down_gets_all_of_it_later(start, receiver, secret):
    receiver.close()
    server = start()
    for number in range(20):
        publish(server, f"alerts.user.u{number}.a", number)
    eventually(lambda: webhook_figure(server, "waiting", event="alert.unread") == 20, "they wait")
    eventually(lambda: webhook_figure(server, "failed_total", event="alert.unread") >= 2, "they are tried")
    assert webhook_figure(server, "receiver_failing", webhook="w") == 1
    with Receiver(receiver.secret, port=receiver.port) as again:
        again.wait("alert.unread", 20, seconds=40)
        assert sorted(unread(again)) == sorted((f"alerts.user.u{number}.a", 1, f"u{number}") for number in range(20))
        eventually(lambda: webhook_figure(server, "waiting", event="alert.unread") == 0, "nothing waits any more")
        assert webhook_figure(server, "receiver_failing", webhook="w") == 0
        eventually(lambda: said(server, "a webhook's receiver takes events again"), "the log says so")
    assert len(said(server, "a webhook's receiver does not take an event")) == 1


@each_count_of_processes
def test_what_waits_outlives_a_kill_and_has_the_same_id(start, receiver, tmp_path, processes):
    store = ["--store", str(tmp_path / "log.sqlite")]
    receiver.status = 500
    server = start(*store, processes=processes)
    for number in range(5):
        publish(server, f"alerts.user.u{number}.a", number)
    eventually(lambda: len({attempt["id"] for attempt in receiver.attempts}) == 5, "all are tried", seconds=20)
    server.kill()
    before = {attempt["id"]: attempt["event"] for attempt in receiver.attempts}
    receiver.status = 204
    start(*store, processes=processes)
    receiver.wait("alert.unread", 5, seconds=20)
    after = {attempt["id"]: attempt["event"] for attempt in receiver.attempts if attempt["status"] == 204}
    assert after == before


def test_what_is_under_way_when_the_server_is_killed_comes_again(start, receiver, tmp_path):
    store = ["--store", str(tmp_path / "log.sqlite")]
    server = start(*store)
    receiver.delay = 1.5
    publish(server, "alerts.user.anna.a", 1)
    eventually(lambda: receiver.active, "it is under way")
    server.kill()
    eventually(lambda: not receiver.active, "the receiver has answered nobody")
    receiver.delay = 0
    start(*store)
    eventually(lambda: len(receiver.attempts) == 2, "it comes again")
    assert receiver.attempts[0]["id"] == receiver.attempts[1]["id"] and receiver.attempts[0]["event"] == receiver.attempts[1]["event"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_to(start, receiver, status):
    receiver.answers = [(status, {"Retry-After": "3"})]
    server = start()
    publish(server, "alerts.user.anna.a", 1)
    receiver.wait("alert.unread")
    first, second = receiver.attempts
    assert 2.9 < second["at"] - first["at"] < 6 and first["id"] == second["id"]
    assert webhook_figure(server, "failed_total", event="alert.unread") == 1


def test_while_it_rests_nothing_else_is_sent(start, receiver):
    receiver.answers = [(429, {"Retry-After": "4"})]
    server = start()
    publish(server, "alerts.user.anna.a", 1)
    eventually(lambda: receiver.attempts, "the first is tried")
    publish(server, "alerts.user.otto.a", 1)
    receiver.wait("alert.unread", 2)
    assert all(attempt["at"] - receiver.attempts[0]["at"] > 3.9 for attempt in receiver.attempts[1:])


def test_one_that_is_gone_is_left_alone_until_the_next_start(start, receiver, tmp_path):
    store = ["--store", str(tmp_path / "log.sqlite")]
    receiver.status = 410
    server = start(*store)
    publish(server, "alerts.user.anna.a", 1)
    eventually(lambda: said(server, "a webhook's receiver says that it is gone"), "the log says so")
    publish(server, "alerts.user.otto.a", 1)
    eventually(lambda: webhook_figure(server, "waiting", event="alert.unread") == 2, "they wait")
    time.sleep(2)
    assert len(receiver.attempts) == 1
    server.stop()
    receiver.status = 200
    start(*store)
    receiver.wait("alert.unread", 2)
    assert receiver.attempts[0]["id"] in {attempt["id"] for attempt in receiver.attempts[1:]}


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500])
def test_what_is_not_taken_is_tried_again_and_no_redirect_is_followed(start, receiver, status):
    receiver.answers = [(status, {"Location": "/elsewhere"})]
    publish(start(), "alerts.user.anna.a", 1)
    receiver.wait("alert.unread")
    assert [attempt["status"] for attempt in receiver.attempts] == [status, 204]
    assert {path for _, path, _, _ in receiver.asked} == {"/events?key=1"}
    assert len({attempt["id"] for attempt in receiver.attempts}) == 1


def test_after_the_last_attempt_it_is_given_up_and_counted(start, receiver):
    receiver.status = 500
    server = start("--webhook-retries", "100ms,100ms")
    publish(server, "alerts.user.anna.a", 1)
    eventually(lambda: webhook_figure(server, "dropped_total", event="alert.unread", reason="attempts") == 1, "it is given up")
    assert len(receiver.attempts) == 3
    eventually(lambda: webhook_figure(server, "waiting", event="alert.unread") == 0, "it does not wait any more")
    assert said(server, "webhooks are dropped")
    time.sleep(1)
    assert len(receiver.attempts) == 3


def test_a_slow_receiver_holds_nobody_up_and_is_asked_by_few_at_a_time(start, receiver):
    receiver.delay = 0.5
    server = start("--webhook-concurrency", "3")
    for number in range(12):
        publish(server, f"alerts.user.u{number}.a", number)
    slowest = 0
    while len(receiver.taken) < 12:
        began = time.monotonic()
        publish(server, "scores.other", 1)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.02)
    assert receiver.most == 3 and slowest < 2


def test_one_that_does_not_answer_in_time_is_asked_again(start, receiver):
    receiver.delay = 1.5
    server = start("--webhook-timeout", "500")
    publish(server, "alerts.user.anna.a", 1)
    eventually(lambda: webhook_figure(server, "failed_total", event="alert.unread") >= 1, "it is too late")
    receiver.delay = 0
    eventually(lambda: webhook_figure(server, "sent_total", event="alert.unread") == 1, "it is in time")


def test_an_answer_without_end_is_not_read(start, receiver):
    receiver.status, receiver.body = 200, b"x" * (8 << 20)
    server = start("--webhook-timeout", "5000")
    before = server.resident()
    for number in range(6):
        publish(server, f"alerts.user.u{number}.a", number)
    eventually(lambda: webhook_figure(server, "sent_total", event="alert.unread") == 6, "they are taken")
    assert server.resident() - before < 40 << 20


def test_a_receiver_over_tls_is_known_by_its_authority(start, receiver, tmp_path, start_server, secret):
    chain, key = make_certificate(tmp_path, "receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with Receiver(receiver.secret, context=context) as other:
        publish(start("--outgoing-ca", str(chain), url=other.url), "alerts.user.anna.a", 1)
        other.wait("alert.unread")
        stranger = start(url=other.url)
        publish(stranger, "alerts.user.anna.a", 1)
        eventually(lambda: webhook_figure(stranger, "failed_total", event="alert.unread") >= 1, "it is not trusted")
        assert len(other.taken) == 1


# Secrets.

def test_a_secret_is_changed_without_losing_anybody(start, receiver, secret):
    server = start()
    old, new = receiver.secret, make_secret(24)
    publish(server, "alerts.user.anna.a", 1)
    receiver.wait("alert.unread")
    secret.write_text(f"{new}\n{old}\n")
    server.hang_up()
    eventually(lambda: said(server, "the secrets of a webhook were read again"), "they are read again")
    publish(server, "alerts.user.anna.a", 2)
    receiver.wait("alert.unread", 2)
    receiver.secret = new
    publish(server, "alerts.user.anna.a", 3)
    receiver.wait("alert.unread", 3)
    signatures = [fields["webhook-signature"].split(" ") for _, _, fields, _ in receiver.asked]
    assert [len(one) for one in signatures] == [1, 2, 2] and all(text.startswith("v1,") for one in signatures for text in one)
    secret.write_text("whsec_short\n")
    server.hang_up()
    eventually(lambda: said(server, "the new secrets of a webhook are not good"), "the log says so")
    publish(server, "alerts.user.anna.a", 4)
    receiver.wait("alert.unread", 4)


def test_secrets_are_nowhere_to_be_seen(start, receiver, secret):
    server = start("--log-level", "trace")
    publish(server, "alerts.user.anna.a", 1)
    receiver.wait("alert.unread")
    with http() as client:
        shown = client.get(f"{server.url}/metrics").text
    with open(f"/proc/{server.process.pid}/cmdline") as line:
        shown += line.read()
    shown += "".join(server.output)
    assert receiver.secret not in shown and receiver.secret.removeprefix("whsec_") not in shown


def test_everybody_could_read_the_secret(start, secret):
    secret.chmod(0o644)
    server = start()
    eventually(lambda: said(server, "everybody on this host can read the secret of a webhook"), "the log warns")


WRONG = {
    "no secret": ["--webhook", "w=http://127.0.0.1:1/"], "no name": ["--webhook", "http://127.0.0.1:1/"],
    "another scheme": ["--webhook", "w=ftp://a/"], "a user": ["--webhook", "w=http://a:b@c/"], "no URL": ["--webhook", "w=there"],
    "an unknown event": ["--webhook-events", "w=channel.full"], "a pattern of none": ["--webhook-events", "w=connection.refused:a"],
    "another's events": ["--webhook-events", "v=alert.unread"], "a schedule": ["--webhook-retries", "5m,1s"],
    "no time": ["--alert-unread-after", "15"], "no user": ["--alert-user", "alerts.>"], "a timeout": ["--webhook-timeout", "1"],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_configured_wrong_is_refused(what, secret):
    good = [] if WRONG[what][0] == "--webhook" else ["--webhook", "w=http://127.0.0.1:1/"]
    secrets_ = [] if what == "no secret" else ["--webhook-secret", f"w={secret}"]
    with pytest.raises(AssertionError, match="did not start"):
        Server(arguments=[*good, *secrets_, *WRONG[what]])


def test_a_file_without_a_secret_is_refused(secret):
    secret.write_text("nothing\n")
    with pytest.raises(AssertionError, match="did not start") as failure:
        Server(arguments=["--webhook", "w=http://127.0.0.1:1/", "--webhook-secret", f"w={secret}"])
    assert "line 1" in str(failure.value)


# Connections that are refused.

@each_count_of_processes
def test_refused_connections_are_told_of_by_limit_and_address(start, receiver, processes):
    server = start("--connections-per-address", "8", processes=processes, events="connection.refused")
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect_from("127.0.0.2", server.port)).sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        for _ in range(5):
            attempt("127.0.0.2", server.port)
        data = receiver.wait("connection.refused")[0]["data"]
        assert data["limit"] == "connections_per_address" and data["address"] == "127.0.0.2" and 1 <= data["count"] <= 5
        assert timestamp(data["from"]) <= timestamp(data["to"]) < time.time() + 1
        time.sleep(2.5)
        # Within the minute the same is not told again.
        assert len(receiver.attempts) == 1


def test_a_flood_of_refusals_is_few_webhooks_and_the_server_goes_on(start, receiver):
    server = start("--connections-per-address", "5", events="connection.refused")
    counted = 0
    with contextlib.ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3"):
            for _ in range(5):
                stack.enter_context(connect_from(address, server.port)).sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            for address in ("127.0.0.2", "127.0.0.3"):
                with contextlib.suppress(OSError), connect_from(address, server.port):
                    counted += 1
        server.answers()
        receiver.wait("connection.refused", 2)
        time.sleep(1.5)
    assert counted > 200
    assert sorted(event["data"]["address"] for event in receiver.taken) == ["127.0.0.2", "127.0.0.3"]
    assert figures(server)['tocsin_limit_refusals_total{limit="connections_per_address"}'] > 200


def test_while_the_disk_is_full_events_wait_in_memory_and_subscribers_are_served(start, receiver):
    with small_disk("3m") as disk:
        server = start("--store", str(disk / "log.sqlite"), "--connections-per-address", "8", events="connection.refused")
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(http())
            # What the write-ahead log took is room once more.
            for _ in range(3):
                fill(server, client, "news.full", [], disk / "filler")
                time.sleep(1.2)
            for _ in range(9):
                stack.enter_context(connect_from("127.0.0.2", server.port))
            time.sleep(3)
            assert receiver.attempts == []
            assert client.get(f"{server.url}/v1/subscribe?channel=news.full&after=earliest").json()["messages"]
            (disk / "filler").unlink()
            data = receiver.wait("connection.refused")[0]["data"]
            assert data["address"] == "127.0.0.2" and timestamp(data["to"]) < time.time() - 2
        server.kill()


# Bounds.

def test_more_than_there_is_room_for_is_dropped_and_counted_and_said_seldom(start, receiver):
    receiver.status = 500
    server = start("--webhook-outbox", "10", "--webhook-retries", "1h")
    for number in range(60):
        publish(server, f"alerts.user.u{number}.a", number)
    eventually(lambda: webhook_figure(server, "dropped_total", event="alert.unread", reason="room") == 50, "they are dropped", seconds=20)
    assert webhook_figure(server, "waiting", event="alert.unread") == 10
    assert 1 <= len(said(server, "webhooks are dropped")) <= 3


def test_a_thousand_unread_alerts_are_told_of_each_once(start, receiver):
    server = start("--webhook-concurrency", "20", after="1s")
    with http() as client:
        batch = [{"channel": f"alerts.user.u{number % 50}.a", "data": number} for number in range(1000)]
        assert client.post(f"{server.url}/v1/publish", json=batch).status_code == 201
    receiver.wait("alert.unread", 1000, seconds=60)
    time.sleep(0.5)
    assert len(receiver.attempts) == 1000 and len({attempt["id"] for attempt in receiver.attempts}) == 1000


def test_several_receivers_get_what_each_wants(start, receiver, secret, tmp_path):
    other_secret = tmp_path / "other"
    other_secret.write_text(make_secret())
    with Receiver(other_secret.read_text()) as other:
        server = start("--webhook", f"v={other.url}", "--webhook-secret", f"v={other_secret}",
                       "--webhook-events", "v=alert.unread:alerts.user.otto.>")
        publish(server, "alerts.user.anna.a", 1)
        publish(server, "alerts.user.otto.a", 1)
        receiver.wait("alert.unread", 2)
        other.wait("alert.unread")
        time.sleep(0.5)
        assert [event["data"]["user"] for event in other.taken] == ["otto"]
        # The same event is the same to both.
        mine = {attempt["id"] for attempt in receiver.attempts if attempt["event"]["data"]["user"] == "otto"}
        assert mine == {attempt["id"] for attempt in other.attempts}


def test_a_server_without_webhooks_has_nothing_of_them(start_server):
    server = start_server()
    assert not [name for name in figures(server) if name.startswith("tocsin_webhook")]
