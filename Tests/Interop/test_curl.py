"""curl as publisher and subscriber, over HTTP/1.1, HTTP/2 by prior knowledge, and HTTP/2 over TLS."""

import json
import subprocess
import threading

import pytest

from support import Promise, publish, publish_many, query

CURL = ["curl", "-sS", "--noproxy", "*", "--max-time", "20"]
WAYS = {
    "HTTP/1.1": (["--http1.1"], False, "1.1"),
    "HTTP/2 by prior knowledge": (["--http2-prior-knowledge"], False, "2"),
    "HTTP/2 over TLS": (["--http2", "-k"], True, "2"),
    "HTTP/1.1 over TLS": (["--http1.1", "-k"], True, "1.1"),
}
each_way = pytest.mark.parametrize("way", WAYS)


def base(server, way):
    return server.tls_url if WAYS[way][1] else server.url


def curl(way, *arguments):
    """Runs curl; answers the body, and checks the HTTP version that was spoken."""
    options, _, version = WAYS[way]
    done = subprocess.run([*CURL, *options, "-w", "\n%{http_version} %{http_code}", *arguments],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    body, _, last = done.stdout.rpartition("\n")
    spoken, status = last.split()
    assert spoken == version
    return int(status), body


class Stream:
    """curl -N on an event stream, read by lines."""

    def __init__(self, way, url):
        options = WAYS[way][0]
        self.process = subprocess.Popen([*CURL, *options, "-N", "-H", "Accept: text/event-stream", url],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()

    def event(self):
        """The next event that has data, as a dictionary of its fields."""
        fields = {}
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if not line and "data" in fields:
                return fields
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        raise AssertionError(f"the stream ended: {self.process.stderr.read()}")


@each_way
def test_one_curl_with_d_publishes(server, channel, way):
    status, body = curl(way, "-d", '{"goal":1}', f"{base(server, way)}/v1/channels/{channel}", "-H", "Content-Type: application/json")
    assert status == 201
    answer = json.loads(body)
    assert answer["channel"] == channel and answer["sequence"] == 1 and answer["position"]


def test_the_default_content_type_of_curl_with_d_is_taken_as_in_the_first_example_of_the_help(server, channel):
    status, body = curl("HTTP/1.1", "-d", '{"hello":"world"}', f"{server.url}/v1/channels/{channel}")
    assert status == 201, body
    assert json.loads(body)["sequence"] == 1


@each_way
def test_curl_with_N_shows_an_event_stream(server, channel, way):
    publish_many(server, [(channel, number) for number in range(5)])
    with Stream(way, f"{base(server, way)}/v1/subscribe?{query(channel, after='earliest')}") as stream:
        first = stream.event()
        assert first["event"] == "hello" and first["retry"] == "2000"
        hello = json.loads(first["data"])
        assert hello["type"] == "hello" and hello["heartbeat"] == 1
        assert len(hello["session"]) == 40 and int(hello["session"], 16) >= 0
        promise = Promise()
        for number in range(10):
            if number >= 5:
                publish(server, channel, number)
            event = stream.event()
            message = json.loads(event["data"])
            promise.see(message)
            assert message["data"] == number and event["id"] == message["position"]
            assert "event" not in event


@each_way
def test_a_loop_of_curl_long_polls_gets_everything_in_order_and_once(server, channel, way):
    url = f"{base(server, way)}/v1/subscribe?"
    status, body = curl(way, url + query(channel))
    assert status == 200
    position = json.loads(body)["position"]
    assert json.loads(body)["messages"] == []
    count = 60
    done = threading.Event()

    def publisher():
        for number in range(count):
            publish(server, channel, number)
        done.set()

    thread = threading.Thread(target=publisher)
    thread.start()
    promise, seen = Promise(), []
    while len(seen) < count:
        status, body = curl(way, url + query(channel, after=position), "-H", "Prefer: wait=5")
        assert status == 200
        answer = json.loads(body)
        assert answer["messages"], "a poll came to its deadline though messages are missing"
        for message in answer["messages"]:
            promise.see(message)
            seen.append(message["data"])
        position = answer["position"]
    thread.join(10)
    assert done.is_set() and seen == list(range(count))
    status, body = curl(way, url + query(channel, after=position), "-H", "Prefer: wait=0")
    assert json.loads(body) == {"position": position, "messages": []}


@each_way
def test_a_parked_poll_of_curl_is_answered_by_the_next_message_and_not_at_its_deadline(server, channel, way):
    position = publish(server, channel, 0)["position"]
    timer = threading.Timer(0.5, publish, (server, channel, 1))
    timer.start()
    status, body = curl(way, "-H", "Prefer: wait=15", f"{base(server, way)}/v1/subscribe?{query(channel, after=position)}",
                        "--max-time", "8")
    timer.join(5)
    assert status == 200 and [message["data"] for message in json.loads(body)["messages"]] == [1]


def test_curl_asks_for_the_upgrade_to_http2_on_the_plain_port_and_is_served(server, channel):
    done = subprocess.run([*CURL, "--http2", "-w", "\n%{http_code}", "-d", "1", "-H", "Content-Type: application/json",
                           f"{server.url}/v1/channels/{channel}"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout.endswith("\n201"), done.stdout + done.stderr
