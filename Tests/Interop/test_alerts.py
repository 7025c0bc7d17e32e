"""Alerts: what a user has read, on all of the user's devices; expiry, replacement, digests."""

import contextlib
import json
import queue
import threading
import time
import uuid

import httpx_sse
import pytest

from support import Promise, Server, assert_problem, epochless, eventually, http, publish, publish_many, query
from test_websockets import command, receive, websocket

WAYS = ["websocket", "sse", "long-poll"]
each_way = pytest.mark.parametrize("way", WAYS)


def messages(server, way, channels, **items):
    """Everything that comes over the transport, as it comes; of a long-poll, what the first answer says in the place of `hello`."""
    if way == "websocket":
        with websocket(server, query(channels, **items)) as connection:
            while True:
                yield receive(connection)
    elif way == "sse":
        url = f"{server.url}/v1/subscribe?{query(channels, **items)}"
        with http(timeout=10) as client, httpx_sse.connect_sse(client, "GET", url) as source:
            assert source.response.status_code == 200
            for event in source.iter_sse():
                # This library makes an empty event of each heartbeat that follows an id.
                if not event.data:
                    continue
                message = event.json()
                assert event.event == ("message" if message["type"] in ("notification", "ack") else message["type"])
                if "position" in message:
                    assert event.id == message["position"]
                yield message
    else:
        with http() as client:
            is_first = True
            while True:
                wait = 0 if is_first and items.get("after") == "latest" else 8
                answer = client.get(f"{server.url}/v1/subscribe?{query(channels, **items)}", headers={"Prefer": f"wait={wait}"})
                assert answer.status_code == 200, answer.text
                body = answer.json()
                if is_first:
                    yield {"type": "hello", **{name: value for name, value in body.items() if name != "messages"}}
                assert body["messages"] or is_first, "nothing came"
                is_first = False
                yield from body["messages"]
                items["after"] = body["position"]


def following(*arguments, **items):
    return contextlib.closing(messages(*arguments, **items))


def take(source, count, kinds=("notification", "gap", "digest", "snapshot")):
    """The next so many messages of these kinds."""
    found = []
    while len(found) < count:
        message = next(source)
        if message["type"] in kinds:
            found.append(message)
    return found


def datas(found):
    return [message["data"] for message in found if message["type"] == "notification"]


def sequences(ack):
    """What it says was read."""
    return [sequence for first, last in ack["data"]["ranges"] for sequence in range(first, last + 1)]


def inbox(server, user, channels, **items):
    with http() as client:
        answer = client.get(f"{server.url}/v1/inbox?{query(channels, user=user, **items)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def acknowledge(server, user, channel, **items):
    with http() as client:
        answer = client.post(f"{server.url}/v1/acks", json={"user": user, "channel": channel, **items})
    assert answer.status_code == 200, answer.text
    assert answer.json()["channel"] == channel
    return answer.json()["unread"]


def poll(server, channels, **items):
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?{query(channels, wait=0, **items)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def alerts():
    """A channel of alerts that no other test uses."""
    return f"alerts.{uuid.uuid4().hex[:12]}"


@pytest.fixture
def user():
    return f"user-{uuid.uuid4().hex[:12]}"


@each_way
def test_a_user_begins_with_what_is_unread_and_goes_on_with_what_comes(server, alerts, user, way):
    for number in range(1, 11):
        publish(server, alerts, number)
    assert acknowledge(server, user, alerts, through=4) == 6
    assert acknowledge(server, user, alerts, sequences=[6, 9]) == 4
    promise = Promise()
    with following(server, way, alerts, user=user) as source:
        hello = next(source)
        assert hello["type"] == "hello" and hello["unread"] == 4
        found = take(source, 4, ("notification",))
        assert datas(found) == [5, 7, 8, 10]
        publish(server, alerts, 11)
        found += take(source, 1)
    promise.previous[alerts] = found[0]["sequence"] - 1
    for message in found:
        promise.see(message)
    assert datas(found) == [5, 7, 8, 10, 11] and promise.skipped == 2, "holes between them are told"


@each_way
def test_an_end_that_was_read_is_told_before_the_next_alert(server, alerts, user, way):
    for number in range(1, 7):
        publish(server, alerts, number)
    acknowledge(server, user, alerts, sequences=[5, 6])
    with following(server, way, alerts, user=user) as source:
        assert next(source)["unread"] == 4
        found = take(source, 4)
        publish(server, alerts, 7)
        while "data" not in found[-1] or found[-1]["data"] != 7:
            found += take(source, 1)
    assert datas(found) == [1, 2, 3, 4, 7]
    promise = Promise()
    for message in found:
        promise.see(message)
    assert all(gap["reason"] == "read" and (gap["from"], gap["to"]) == (5, 6) for gap in promise.gaps)


@each_way
def test_a_user_of_another_name_and_a_subscriber_without_one_do_not_share_what_is_read(server, alerts, user, way):
    position = publish(server, alerts, 1)["position"]
    publish(server, alerts, 2)
    acknowledge(server, user, alerts, through=2)
    with following(server, way, alerts, user=user + "-other") as source:
        assert next(source)["unread"] == 2
        assert datas(take(source, 2)) == [1, 2]
    with following(server, way, alerts, after=position) as source:
        assert "unread" not in next(source)
        assert datas(take(source, 1)) == [2]


@pytest.mark.parametrize("by", ["http", "websocket"])
def test_what_is_read_on_one_device_is_told_to_the_users_others_and_to_nobody_else(server, alerts, user, by):
    for number in range(1, 6):
        last = publish(server, alerts, number)
    seen = {}

    def device(name, way, whose, ready):
        kinds = seen[name] = []
        with following(server, way, alerts, user=whose, after=last["position"]) as source:
            for message in source:
                kinds.append(message)
                if message["type"] == "hello":
                    ready.put(name)
                if message["type"] == "notification":
                    return

    devices = [(f"{way} {whose}", way, whose) for way in WAYS for whose in (user, "somebody-else")]
    ready = queue.Queue()
    threads = [threading.Thread(target=device, args=(*entry, ready), daemon=True) for entry in devices]
    for thread in threads:
        thread.start()
    # The long-polls have their first answer only with the ack; they are parked when the server says so.
    for _ in range(4):
        ready.get(timeout=10)
    with http() as client:
        eventually(lambda: 'transport="long_poll"} 2' in client.get(f"{server.url}/metrics").text, "two polls are parked")
    if by == "http":
        assert acknowledge(server, user, alerts, through=3) == 2
    else:
        with websocket(server, query(alerts, user=user, after="latest")) as connection:
            receive(connection, "hello")
            connection.send(json.dumps({"id": 1, "type": "ack", "channel": alerts, "through": 3}))
            reply = receive(connection, "reply")
            assert reply["id"] == 1 and reply["unread"] == 2
    eventually(lambda: all(any(message["type"] == "ack" for message in seen[name]) for name, _, whose in devices if whose == user),
               "each device has the ack")
    time.sleep(0.4)
    publish(server, alerts, "end")
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for name, way, whose in devices:
        acks = [message for message in seen[name] if message["type"] == "ack"]
        if whose == user:
            assert len(acks) == 1, name
            assert acks[0]["data"] == {"channel": alerts, "ranges": [[1, 3]], "dismissed": False}
            assert acks[0]["position"] and acks[0]["time"]
            counts = [message["count"] for message in seen[name] if message["type"] == "unread"]
            assert way == "long-poll" or 2 in counts, (name, seen[name])
        else:
            assert not acks, name
            assert 2 not in [message.get("count") for message in seen[name]], name
        assert seen[name][-1]["data"] == "end"


@each_way
def test_a_device_that_was_away_is_told_what_was_read_meanwhile(server, alerts, user, way):
    publish(server, alerts, 1)
    position = publish(server, alerts, 2)["position"]
    acknowledge(server, user, alerts, through=1)
    publish(server, alerts, 3)
    acknowledge(server, user, alerts, sequences=[3], dismiss=True)
    with following(server, way, alerts, user=user, after=position) as source:
        hello = next(source)
        assert hello["unread"] == 1
        found = take(source, 3, ("ack", "notification"))
    assert [message["type"] for message in found] == ["ack", "notification", "ack"]
    assert found[0]["data"]["ranges"] == [[1, 1]] and found[1]["data"] == 3
    assert found[2]["data"] == {"channel": alerts, "ranges": [[3, 3]], "dismissed": True}


@pytest.mark.parametrize("way", ["websocket", "sse"])
def test_the_number_of_unread_alerts_is_told_as_it_changes(server, alerts, user, way):
    publish(server, alerts, 1)
    with following(server, way, alerts, user=user) as source:
        assert next(source)["unread"] == 1
        take(source, 1)

        def comes_to(count):
            while (message := take(source, 1, ("unread",))[0])["count"] != count:
                pass
            return message
        publish(server, alerts, 2)
        publish(server, alerts, 3)
        comes_to(3)
        assert acknowledge(server, user, alerts, through=2) == 1
        comes_to(1)
        assert acknowledge(server, user, alerts, through=3) == 0
        assert comes_to(0) == {"type": "unread", "count": 0}


def test_a_long_poll_has_the_number_of_unread_alerts_in_each_answer(server, alerts, user):
    publish(server, alerts, 1)
    body = poll(server, alerts, user=user)
    assert body["unread"] == 1 and datas(body["messages"]) == [1]
    publish(server, alerts, 2)
    body = poll(server, alerts, user=user, after=body["position"])
    assert body["unread"] == 2 and datas(body["messages"]) == [2]
    acknowledge(server, user, alerts, through=2)
    body = poll(server, alerts, user=user, after=body["position"])
    assert body["unread"] == 0 and [message["type"] for message in body["messages"]] == ["ack"]
    assert poll(server, alerts, user=user, after=body["position"])["messages"] == []
    assert "unread" not in poll(server, alerts, after=body["position"])


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"], ids=["long-poll", "sse"])
def test_the_user_may_be_named_in_a_posted_subscription(server, alerts, user, accept):
    publish(server, alerts, 1)
    publish(server, alerts, 2)
    acknowledge(server, user, alerts, through=1)
    form = {"channels": [alerts], "user": user, "wait": 0}
    with http() as client, client.stream("POST", f"{server.url}/v1/subscribe", json=form, headers={"Accept": accept}) as answer:
        text = ""
        for piece in answer.iter_text():
            text += piece
            if '"data":2' in text:
                break
    assert '"unread":1' in text and '"data":2' in text and '"data":1}' not in text


# Acknowledging.

def test_what_was_read_stays_read_when_it_is_acknowledged_again(server, alerts, user):
    for number in range(1, 5):
        publish(server, alerts, number)
    assert acknowledge(server, user, alerts, sequences=[2]) == 3
    assert acknowledge(server, user, alerts, sequences=[2]) == 3
    assert acknowledge(server, user, alerts, through=2) == 2
    assert acknowledge(server, user, alerts, through=1) == 2, "nothing becomes unread again"
    assert [message["read"] for message in inbox(server, user, alerts)["messages"]] == [False, False, True, True]


def test_what_is_read_is_kept_exactly_however_many_holes_it_has(server, alerts, user):
    last = 2400
    with http() as client:
        for _ in range(3):
            client.post(f"{server.url}/v1/publish", json=[{"channel": alerts, "data": 1}] * 800).raise_for_status()
    for start in range(1, last + 1, 400):
        read = list(range(start, start + 400, 2))
        assert acknowledge(server, user, alerts, sequences=read) == last - (start + 399) // 2
    unread, before = set(), {}
    while before is not None:
        with http() as client:
            items = {"user": user, "channel": alerts, "limit": 200, "unread": "true", **before}
            page = client.get(f"{server.url}/v1/inbox", params=items).json()
        unread |= {message["sequence"] for message in page["messages"]}
        before = {"before": page["before"]} if "before" in page else None
    assert unread == set(range(2, last + 1, 2)) and page["unread"] == len(unread)


def test_an_ack_of_what_does_not_exist_yet_does_not_make_later_alerts_read(server, alerts, user):
    publish(server, alerts, 1)
    with http() as client:
        client.post(f"{server.url}/v1/acks", json={"user": user, "channel": alerts, "through": 1_000_000})
    publish(server, alerts, 2)
    assert inbox(server, user, alerts)["unread"] == 1


@pytest.mark.parametrize("form, status", [
    ({}, 400), ({"user": "u"}, 400), ({"user": "u", "channel": "alerts.none-such", "through": 1}, 404),
    ({"user": "", "channel": "{}", "through": 1}, 400), ({"user": "u" * 101, "channel": "{}", "through": 1}, 400),
    ({"user": "u", "channel": "{}"}, 400), ({"user": "u", "channel": "{}", "through": -1}, 400),
    ({"user": "u", "channel": "{}", "through": "1"}, 400), ({"user": "u", "channel": "{}", "sequences": 3}, 400),
    ({"user": "u", "channel": "{}", "sequences": ["x"]}, 400), ({"user": 3, "channel": "{}", "through": 1}, 400),
    ({"user": "u", "channel": "alerts.>", "through": 1}, 400), ([], 400),
], ids=json.dumps)
def test_an_ack_that_makes_no_sense_is_refused_with_the_reason(server, alerts, form, status):
    publish(server, alerts, 1)
    with http() as client:
        answer = client.post(f"{server.url}/v1/acks", content=json.dumps(form).replace('"{}"', f'"{alerts}"'))
    problem = assert_problem(answer, status, answer.json()["type"].removeprefix("/problems/"))
    assert problem["detail"] or problem["title"]


def test_an_ack_command_needs_a_user_and_says_so(server, alerts, user):
    publish(server, alerts, 1)
    with websocket(server, query(alerts, after="latest")) as connection:
        receive(connection, "hello")
        assert command(connection, id=1, type="ack", channel=alerts, through=1)["error"]["code"] == "no_user"
    with websocket(server, query(alerts, after="latest", user=user)) as connection:
        receive(connection, "hello")
        assert command(connection, id=2, type="ack", channel=alerts)["error"]["code"] == "bad_ack"
        assert command(connection, id=3, type="ack", channel=alerts, through="x")["error"]["code"] == "bad_ack"
        connection.send(json.dumps({"id": 4, "type": "ack", "channel": alerts, "sequences": [1], "dismiss": True}))
        reply = receive(connection, "reply")
        assert reply["id"] == 4 and reply["unread"] == 0
    assert inbox(server, user, alerts) == {"unread": 0, "messages": []}


# The inbox.

def test_the_inbox_has_the_newest_first_page_by_page_over_channels_and_patterns(server, user):
    stem = f"alerts.{uuid.uuid4().hex[:12]}"
    for number in range(9):
        publish(server, f"{stem}.{'abc'[number % 3]}", number)
    acknowledge(server, user, f"{stem}.a", through=2)
    acknowledge(server, user, f"{stem}.b", sequences=[3])
    wanted = [f"{stem}.a", f"{stem}.*"]
    whole = inbox(server, user, wanted)
    assert whole["unread"] == 6 and datas(whole["messages"]) == [8, 7, 6, 5, 4, 3, 2, 1, 0], "each once, though two of them match"
    assert [message["data"] for message in whole["messages"] if message["read"]] == [7, 3, 0]
    assert all(message["type"] == "notification" and message["position"] for message in whole["messages"])
    pages, before = [], None
    while True:
        page = inbox(server, user, wanted, limit=4, before=before)
        assert page["unread"] == 6
        pages.append(datas(page["messages"]))
        before = page.get("before")
        if not before:
            break
    assert sum(pages, []) == [8, 7, 6, 5, 4, 3, 2, 1, 0] and len(pages[0]) == len(pages[1]) == 4
    assert datas(inbox(server, user, f"{stem}.>", unread="true")["messages"]) == [8, 6, 5, 4, 2, 1]
    assert datas(inbox(server, user, [f"{stem}.b", f"{stem}.c"])["messages"]) == [8, 7, 5, 4, 2, 1]


def test_what_was_dismissed_is_not_in_the_inbox_any_more(server, alerts, user):
    for number in range(1, 5):
        publish(server, alerts, number)
    assert acknowledge(server, user, alerts, sequences=[2, 4], dismiss=True) == 2
    body = inbox(server, user, alerts)
    assert body["unread"] == 2 and datas(body["messages"]) == [3, 1]
    assert datas(inbox(server, user + "x", alerts)["messages"]) == [4, 3, 2, 1]


@pytest.mark.parametrize("items, problem", [
    ("channel=alerts.x", "bad-parameter"), ("user=u", "no-channel"), ("user=u&channel=alerts.x&limit=0", "bad-parameter"),
    ("user=u&channel=alerts.x&limit=201", "bad-parameter"), ("user=u&channel=alerts.x&limit=x", "bad-parameter"),
    ("user=u&channel=alerts.x&unread=maybe", "bad-parameter"), ("user=u&channel=bad%20channel", "bad-channel"),
    ("user=&channel=alerts.x", "bad-parameter"),
])
def test_an_inbox_that_makes_no_sense_is_refused(server, items, problem):
    with http() as client:
        assert_problem(client.get(f"{server.url}/v1/inbox?{items}"), 400, problem)


# Expiry and replacement.

@each_way
def test_an_expired_alert_is_not_delivered_late_and_the_hole_is_told(server, alerts, user, way):
    position = publish(server, alerts, 1)["position"]
    publish(server, alerts, 2, ttl=1)
    publish(server, alerts, 3, ttl=1)
    publish(server, alerts, 4)
    publish(server, alerts, 5, ttl=1)
    eventually(lambda: inbox(server, user, alerts)["unread"] == 2, "three of them expire", seconds=5)
    assert datas(inbox(server, user, alerts)["messages"]) == [4, 1]
    with following(server, way, alerts, after=position) as source:
        found = take(source, 1)
        publish(server, alerts, 6)
        while found[-1].get("data") != 6:
            found += take(source, 1)
    promise = Promise({alerts: 1})
    for message in found:
        promise.see(message)
    assert datas(found) == [4, 6]
    assert all(gap["reason"] == "expired" for gap in promise.gaps)
    with following(server, way, alerts, user=user) as source:
        assert next(source)["unread"] == 3
        assert datas(take(source, 3, ("notification",))) == [1, 4, 6]


def test_an_alert_with_a_ttl_is_delivered_in_time_and_leaves_the_count_when_it_expires(server, alerts, user):
    with websocket(server, query(alerts, user=user)) as connection:
        assert receive(connection)["unread"] == 0
        publish(server, alerts, "soon gone", ttl=1)
        assert receive(connection)["data"] == "soon gone"
        assert receive(connection, "unread")["count"] == 1
        assert receive(connection, "unread", timeout=4)["count"] == 0


@each_way
def test_an_alert_that_was_replaced_is_neither_unread_nor_in_the_inbox(server, alerts, user, way):
    publish(server, alerts, "cpu 80", key="cpu")
    publish(server, alerts, "disk 90", key="disk", replaces="cpu-of-old")
    position = publish(server, alerts, "other")["position"]
    publish(server, alerts, "cpu 95", key="cpu", replaces="cpu")
    body = inbox(server, user, alerts)
    assert body["unread"] == 3 and datas(body["messages"]) == ["cpu 95", "other", "disk 90"]
    with following(server, way, alerts, user=user) as source:
        assert next(source)["unread"] == 3
        assert datas(take(source, 3, ("notification",))) == ["disk 90", "other", "cpu 95"]
    with following(server, way, alerts, after=position) as source:
        assert datas(take(source, 1)) == ["cpu 95"], "who is connected gets every one"
    assert acknowledge(server, user, alerts, through=4) == 0


def test_a_key_that_was_read_and_replaced_is_unread_again(server, alerts, user):
    publish(server, alerts, 1, key="k")
    assert acknowledge(server, user, alerts, through=1) == 0
    publish(server, alerts, 2, replaces="k")
    body = inbox(server, user, alerts)
    assert body["unread"] == 1 and datas(body["messages"]) == [2]


# Digests.

@each_way
def test_who_was_away_from_several_alerts_gets_one_digest_if_wanted(server, alerts, user, way):
    position = publish(server, alerts, 0)["position"]
    for number in range(1, 9):
        key = f"k{number}" if number < 7 else "k1"
        publish(server, alerts, number, priority="critical" if number == 3 else "normal", key=key, replaces=key)
    with following(server, way, alerts, after=position, digest="true") as source:
        digest, = take(source, 1)
        assert digest["type"] == "digest" and digest["channel"] == alerts
        assert (digest["from"], digest["to"]) == (2, 9)
        assert digest["count"] == 6 and digest["by_priority"] == {"normal": 5, "critical": 1}, "two were replaced"
        assert {message["data"] for message in digest["newest"]} == {2, 3, 4, 5, 6, 8}
        publish(server, alerts, "next")
        after, = take(source, 1)
        assert after["data"] == "next" and after["sequence"] == digest["to"] + 1 and "skipped" not in after
    body = poll(server, alerts, after=digest["position"], digest="true")
    assert datas(body["messages"]) == ["next"], "one missed alert comes as it is"
    assert len(poll(server, alerts, after=position)["messages"]) == 9, "who does not want it gets each"


# Restarts.

def test_what_was_read_dismissed_replaced_and_expired_is_so_after_a_crash(tmp_path, alerts, user):
    arguments = ("--store", str(tmp_path / "log.sqlite"))
    server = Server(arguments=arguments)
    try:
        for number in range(1, 9):
            items = {1: {"key": "k"}, 2: {"ttl": 1}, 8: {"replaces": "k"}}
            publish(server, alerts, number, **items.get(number, {}))
        position = poll(server, alerts, user=user, after="latest")["position"]
        acknowledge(server, user, alerts, sequences=[3, 4])
        acknowledge(server, user, alerts, sequences=[5], dismiss=True)
        eventually(lambda: inbox(server, user, alerts)["unread"] == 3, "one expires", seconds=5)
        before = inbox(server, user, alerts)
        server.kill()
        server = Server(arguments=arguments)
        assert epochless(inbox(server, user, alerts)) == epochless(before) and datas(before["messages"]) == [8, 7, 6, 4, 3]
        assert [message["read"] for message in before["messages"]] == [False, False, False, True, True]
        body = poll(server, alerts, user=user, after=position)
        assert body["unread"] == 3 and [message["data"]["dismissed"] for message in body["messages"]] == [False, True]
        assert [sequences(message) for message in body["messages"]] == [[3, 4], [5]]
        with following(server, "websocket", alerts, user=user) as source:
            assert next(source)["unread"] == 3
            assert datas(take(source, 3, ("notification",))) == [6, 7, 8]
        assert acknowledge(server, user, alerts, through=8) == 0
    finally:
        server.stop()


@pytest.mark.parametrize("way", ["websocket", "sse"])
def test_the_count_follows_alerts_that_expire_also_those_from_before_a_restart(start_server, tmp_path, way):
    arguments = ["--store", str(tmp_path / "log.sqlite")]
    server = start_server(arguments=arguments)
    publish(server, "alerts.a", "for long")
    publish(server, "alerts.a", "for some seconds", ttl=4)
    server.kill()
    server = start_server(arguments=arguments)
    with following(server, way, ["alerts.a"], user="anna", after="latest") as source:
        assert next(source)["unread"] == 2
        assert take(source, 1, kinds=("unread",))[0]["count"] == 1
    assert inbox(server, "anna", ["alerts.a"])["unread"] == 1


def test_the_count_of_many_channels_is_right_while_alerts_come_and_are_read(server, user):
    token = uuid.uuid4().hex[:8]
    names = [f"alerts.{token}.{number}" for number in range(40)]
    for name in names:
        publish(server, name, 0)
    with following(server, "websocket", [f"alerts.{token}.*"], user=user, after="latest") as source:
        assert next(source)["unread"] == 40
        for name in names[:10]:
            publish(server, name, 1)
        for name in names[5:20]:
            acknowledge(server, user, name, through=1)
        deadline = time.monotonic() + 10
        while True:
            count = take(source, 1, kinds=("unread",))[0]["count"]
            if count == 35:
                break
            assert time.monotonic() < deadline, count
    assert inbox(server, user, [f"alerts.{token}.*"])["unread"] == 35


@each_way
def test_who_missed_more_acknowledgements_than_are_kept_is_told_so_without_the_servers_own_channel(server, user, way):
    channel = f"alerts.{uuid.uuid4().hex[:8]}"
    publish_many(server, [(channel, number) for number in range(300)])
    position = poll(server, [channel], user=user, after="latest")["position"]
    for sequence in range(1, 301):
        acknowledge(server, user, channel, sequences=[sequence])
    publish(server, channel, "after them")
    with following(server, way, [channel], user=user, after=position) as source:
        found = take(source, 1, kinds=("gap",))[0]
        assert found == {"type": "gap", "channels": [channel], "reason": "acks", "position": found["position"]}
        read = [take(source, 1, kinds=("ack",))[0]["data"] for _ in range(200)]
        assert all(data["channel"] == channel for data in read)
        assert read[-1]["ranges"] == [[300, 300]]


def test_an_acknowledgement_cannot_be_taken_for_an_alert_in_a_raw_stream(server, user):
    channel = f"alerts.{uuid.uuid4().hex[:8]}"
    url = f"{server.url}/v1/subscribe?{query([channel], user=user, after='latest', format='raw')}"
    with http(timeout=10) as client, httpx_sse.connect_sse(client, "GET", url) as source:
        events = source.iter_sse()
        assert next(events).event == "hello"
        publish(server, channel, {"x": 1})
        acknowledge(server, user, channel, through=1)
        found = {}
        for event in events:
            if event.data:
                found[event.event] = event.json()
            if "ack" in found and "message" in found:
                break
        assert found["message"] == {"x": 1}
        assert found["ack"]["channel"] == channel
