"""Scores: the state of a channel, merge patches, snapshots for newcomers and for those who were away long."""

import contextlib
import json
import random

import pytest

from support import Promise, Server, assert_problem, epochless, http, publish, publish_many
from test_alerts import each_way, following, poll, take
from test_websockets import command, receive, websocket

KINDS = ("notification", "gap", "snapshot")


def merge(state, patch):
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    state = dict(state) if isinstance(state, dict) else {}
    for name, value in patch.items():
        if value is None:
            state.pop(name, None)
        else:
            state[name] = merge(state.get(name), value)
    return state


def snapshot(server, channel):
    with http() as client:
        answer = client.get(f"{server.url}/v1/channels/{channel}/snapshot")
    assert answer.status_code == 200, answer.text
    return answer.json()


class Follower:
    """A client's picture of one channel: what it does with snapshots and messages, and the check of the promise."""

    def __init__(self):
        self.state, self.sequence, self.snapshots = None, 0, 0

    def see(self, message):
        if message["type"] == "snapshot":
            assert message["sequence"] >= self.sequence
            self.state, self.snapshots = message["data"], self.snapshots + 1
        else:
            assert message["type"] == "notification", message
            assert message["sequence"] == self.sequence + 1 and "skipped" not in message
            self.state = merge(self.state, message["data"]) if message.get("change") == "merge" else message["data"]
        self.sequence = message["sequence"]


def test_merge_patches_change_the_state_as_rfc_7396_says(server, channel):
    # The examples of its appendix A whose documents are objects, and more.
    cases = [
        ({"a": "b"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}), ({"a": "b"}, {"a": None}), ({"a": "b", "b": "c"}, {"a": None}),
        ({"a": ["b"]}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}), ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}), ({"e": None}, {"a": 1}), ({}, {"a": {"bb": {"ccc": None}}}),
        ({"a": 1}, {}), ({"ü\n\"": {"": 1}}, {"ü\n\"": {"": None, "x": [None, {"y": None}]}}), ({"a": 12345678901234567890}, {"b": 1.0}),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": {"d": None, "e": 2}}}}), ({"a": "x"}, {"a": {"b": 1, "c": None}}),
    ]
    for state, patch in cases:
        publish(server, channel, state)
        last = publish(server, channel, patch, change="merge")
        found = snapshot(server, channel)
        assert found["data"] == merge(state, patch), (state, patch)
        assert (found["type"], found["channel"], found["sequence"], found["position"]) == (
            "snapshot", channel, last["sequence"], last["position"])
        assert found["time"]


@each_way
def test_a_newcomer_begins_with_the_state_and_goes_on_with_the_very_next_change(server, channel, way):
    publish(server, channel, {"home": 0, "away": 0})
    publish(server, channel, {"home": 1}, change="merge")
    follower = Follower()
    with following(server, way, channel) as source:
        begin, = take(source, 1, KINDS)
        assert begin["type"] == "snapshot" and begin["data"] == {"home": 1, "away": 0} and begin["sequence"] == 2
        follower.see(begin)
        for patch in ({"away": 1}, {"home": 2, "away": None}):
            publish(server, channel, patch, change="merge")
            follower.see(take(source, 1, KINDS)[0])
    assert follower.state == snapshot(server, channel)["data"] == {"home": 2}
    assert follower.sequence == 4 and follower.snapshots == 1


@each_way
def test_after_latest_has_no_state_but_only_what_comes(server, channel, way):
    publish(server, channel, {"home": 0})
    with following(server, way, channel, after="latest") as source:
        next(source)
        publish(server, channel, {"home": 1}, change="merge")
        message, = take(source, 1, KINDS)
    assert message["type"] == "notification" and message["change"] == "merge" and message["data"] == {"home": 1}


@each_way
def test_a_newcomer_to_a_pattern_begins_with_the_state_of_each_channel(server, channel, way):
    for token in "abc":
        publish(server, f"{channel}.{token}", {"name": token})
        publish(server, f"{channel}.{token}", {"n": 1}, change="merge")
    with following(server, way, f"{channel}.*") as source:
        found = take(source, 3, KINDS)
        assert {message["channel"][-1]: message["data"] for message in found} == {token: {"name": token, "n": 1} for token in "abc"}
        assert all(message["type"] == "snapshot" and message["sequence"] == 2 for message in found)
        publish(server, f"{channel}.d", {"name": "d"})
        message, = take(source, 1, KINDS)
        assert message["type"] == "notification" and message["data"] == {"name": "d"} and message["sequence"] == 1


@each_way
def test_who_is_far_behind_gets_the_state_instead_and_who_is_little_behind_each_change(server, channel, way):
    position = publish(server, channel, {"n": 0})["position"]
    for number in range(1, 21):
        said = publish(server, channel, {"n": number}, change="merge")
        if number == 12:
            late = said["position"]
    with following(server, way, channel, after=position) as source:
        message, = take(source, 1, KINDS)
        assert message["type"] == "snapshot" and message["sequence"] == 21 and message["data"] == {"n": 20}
        publish(server, channel, {"n": 21}, change="merge")
        message, = take(source, 1, KINDS)
        assert message["type"] == "notification" and message["sequence"] == 22
    body = poll(server, channel, after=poll(server, channel, after=position)["messages"][0]["position"])
    assert body["messages"] == [], "the state's position is where it stands"
    publish(server, channel, {"n": 22}, change="merge")
    with following(server, way, channel, after=publish(server, channel, {"n": 23}, change="merge")["position"]) as source:
        publish(server, channel, {"n": 24}, change="merge")
        assert take(source, 1, KINDS)[0]["data"] == {"n": 24}
    found = poll(server, channel, after=late)["messages"]
    assert found[0]["type"] == "snapshot" and len(found) == 1
    for number in range(25, 33):
        said = publish(server, channel, {"n": number}, change="merge")
        if number == 24 + 1:
            first = said["position"]
    found = poll(server, channel, after=first)["messages"]
    assert [message["type"] for message in found] == ["notification"] * 7


def test_a_state_that_is_longer_than_the_changes_is_not_sent_in_their_place(server, channel):
    position = publish(server, channel, {"long": "x" * 50_000})["position"]
    for number in range(20):
        publish(server, channel, {"n": number}, change="merge")
    found = poll(server, channel, after=position)["messages"]
    assert [message["data"] for message in found] == [{"n": number} for number in range(20)]


def test_messages_of_a_score_that_are_no_changes_are_all_delivered(server, channel):
    position = publish(server, channel, "kick-off")["position"]
    publish_many(server, [(channel, number) for number in range(200)])
    promise = Promise({channel: 1})
    found = poll(server, channel, after=position)["messages"]
    for message in found:
        promise.see(message)
    assert [message["data"] for message in found] == list(range(200)) and not promise.gaps


# Patches that do not apply.

def test_a_patch_on_a_channel_without_a_state_is_refused_and_leaves_nothing(server, channel):
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}?change=merge", content='{"a":1}')
        problem = assert_problem(answer, 409, "no-state")
        assert problem["detail"]
        assert client.get(f"{server.url}/v1/channels/{channel}/snapshot").status_code == 404
        publish(server, channel, [1, 2])
        assert_problem(client.post(f"{server.url}/v1/channels/{channel}?change=merge", content='{"a":1}'), 409, "no-state")
    assert snapshot(server, channel)["sequence"] == 1 and snapshot(server, channel)["data"] == [1, 2]


@pytest.mark.parametrize("patch", ["1", '"text"', "[1]", "null", "true"])
def test_a_patch_that_is_no_object_is_refused_with_the_reason(server, channel, patch):
    publish(server, channel, {"a": 1})
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}?change=merge", content=patch)
    assert "object" in assert_problem(answer, 400, "bad-change")["detail"]
    assert snapshot(server, channel)["data"] == {"a": 1} and snapshot(server, channel)["sequence"] == 1


@pytest.mark.parametrize("change", ["replace", "", "MERGE"])
def test_an_unknown_change_is_refused(server, channel, change):
    publish(server, channel, {"a": 1})
    with http() as client:
        assert_problem(client.post(f"{server.url}/v1/channels/{channel}?change={change}", content="{}"), 400, "bad-parameter")


def test_in_a_batch_a_patch_applies_to_what_stands_before_it_and_a_bad_one_harms_no_other(server, channel):
    items = [
        {"channel": channel, "data": {"a": 1}, "change": "merge"}, {"channel": channel, "data": {"a": 1, "b": 1}},
        {"channel": channel, "data": {"b": None}, "change": "merge"}, {"channel": channel, "data": 7, "change": "merge"},
        {"channel": channel, "data": {"c": 3}, "change": "merge"},
    ]
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", json=items)
    assert answer.status_code == 201
    results = answer.json()["results"]
    assert [result.get("sequence") for result in results] == [None, 1, 2, None, 3]
    assert results[0]["error"]["type"] == "/problems/no-state" and results[3]["error"]["type"] == "/problems/bad-change"
    assert snapshot(server, channel)["data"] == {"a": 1, "c": 3}


def test_a_patch_published_on_a_websocket_changes_the_state_and_a_bad_one_is_refused(server, channel):
    publish(server, channel, {"a": 1})
    with websocket(server) as connection:
        receive(connection, "hello")
        reply = command(connection, id=1, type="publish", channel=channel, data={"b": 2}, change="merge")
        assert reply["sequence"] == 2
        refusal = command(connection, id=2, type="publish", channel=channel, data=3, change="merge")["error"]
        assert refusal["code"] == "publish_refused" and "object" in refusal["message"]
    assert snapshot(server, channel)["data"] == {"a": 1, "b": 2}


def test_a_state_that_would_grow_over_a_mebibyte_is_refused_and_stays(server, channel):
    publish(server, channel, {"a": "x" * 600_000})
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{channel}?change=merge", content=json.dumps({"b": "y" * 600_000}))
    assert_problem(answer, 413, "state-too-large")
    assert snapshot(server, channel)["sequence"] == 1 and set(snapshot(server, channel)["data"]) == {"a"}


def test_the_snapshot_of_what_has_none_is_not_found(server, channel):
    publish(server, channel.replace("scores.", "news."), {"a": 1})
    with http() as client:
        for name in (channel, channel.replace("scores.", "news.")):
            assert_problem(client.get(f"{server.url}/v1/channels/{name}/snapshot"), 404, "not-found")


# Consistency.

@each_way
def test_the_picture_of_who_comes_and_goes_is_the_state_of_the_server_at_each_sequence(server, channel, way):
    dice = random.Random(7)
    publish(server, channel, {"n": 0})
    follower, position = Follower(), None
    states = {1: {"n": 0}}
    for _ in range(6):
        for _ in range(dice.choice([1, 3, 15])):
            patch = {dice.choice("abcdef"): dice.choice([None, 1, {"x": dice.random()}, [1]]) for _ in range(2)}
            said = publish(server, channel, patch, change="merge")
            states[said["sequence"]] = merge(states[said["sequence"] - 1], patch)
        with following(server, way, channel, after=position) as source:
            while follower.sequence < said["sequence"]:
                message, = take(source, 1, KINDS)
                follower.see(message)
                assert follower.state == states[follower.sequence]
                position = message["position"]
    assert follower.state == snapshot(server, channel)["data"] and follower.snapshots > 1


def test_the_state_survives_a_crash_as_it_was(tmp_path, channel):
    arguments = ("--store", str(tmp_path / "log.sqlite"), "--keep-messages", "5")
    with contextlib.ExitStack() as stack:
        server = Server(arguments=arguments)
        stack.callback(server.kill)
        state = {"fixed": "x" * 300}
        publish(server, channel, state)
        for number in range(60):
            patch = {f"k{number % 7}": number, f"k{(number + 3) % 7}": None}
            said = publish(server, channel, patch, change="merge")
            state = merge(state, patch)
        publish(server, f"{channel}.other", {"whole": 1})
        before = snapshot(server, channel), snapshot(server, f"{channel}.other")
        assert before[0]["data"] == state
        server.kill()
        server = Server(arguments=arguments)
        stack.callback(server.stop)
        after = snapshot(server, channel), snapshot(server, f"{channel}.other")
        for old, new in zip(before, after):
            assert epochless(new) == epochless(old)
        next_one = publish(server, channel, {"after": True}, change="merge")
        assert next_one["sequence"] == said["sequence"] + 1
        assert snapshot(server, channel)["data"] == {**state, "after": True}


def test_a_snapshot_has_the_time_of_its_newest_message_also_after_a_crash(tmp_path, channel):
    arguments = ("--store", str(tmp_path / "log.sqlite"))
    with contextlib.ExitStack() as stack:
        server = Server(arguments=arguments)
        stack.callback(server.kill)
        publish(server, channel, {"home": 0})
        publish(server, channel, {"home": 1}, change="merge")
        before = snapshot(server, channel)
        server.kill()
        server = Server(arguments=arguments)
        stack.callback(server.stop)
        assert epochless(snapshot(server, channel)) == epochless(before)
        assert before["time"] and poll(server, channel)["messages"][0]["time"] == before["time"]


def test_a_newcomer_by_long_poll_has_state_and_position_in_its_first_answer(server, channel):
    publish(server, channel, {"a": 1})
    body = poll(server, channel)
    assert [message["type"] for message in body["messages"]] == ["snapshot"]
    assert poll(server, channel, after=body["position"])["messages"] == []
    publish(server, channel, {"b": 1}, change="merge")
    assert [message["sequence"] for message in poll(server, channel, after=body["position"])["messages"]] == [2]
