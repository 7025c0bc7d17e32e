"""Messages that are damaged on the disk: what is sound comes all the same, and what is not is told."""

import asyncio
import contextlib
import sqlite3

import pytest

from support import Promise, assert_problem, epoch, epochless, following, http, publish, query, run
from test_store import copy_of, history, poll, run_log, serving, sound_log, store, tocsin_log  # noqa: F401


@pytest.fixture
def damaged_log(sound_log, tmp_path):
    """The same with one byte changed; which messages that takes, and the others."""
    path, known = copy_of(sound_log[0], tmp_path), sound_log[1]
    content = bytearray(path.read_bytes())
    content[content.index(b"00300yyyy")] ^= 0x01
    path.write_bytes(content)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        first, count = connection.execute(
            "SELECT first_sequence, count FROM run JOIN channel ON channel.id = run.id >> 40 "
            "WHERE name = 'news.kept' AND first_sequence <= 301 AND first_sequence + count > 301").fetchone()
    gap = {"channel": "news.kept", "from": first, "to": first + count - 1, "reason": "damaged"}
    return path, [message for message in known if not first <= message["sequence"] < first + count], gap


@pytest.mark.parametrize("way", ["websocket", "sse", "sse-http2", "long-poll", "long-poll-http2"])
def test_one_flipped_byte_is_told_as_a_gap_and_all_other_messages_come_those_that_come_later_too(damaged_log, way):
    path, sound, gap = damaged_log
    with serving(path) as server:
        async def read():
            promise, seen = Promise(), []
            async with following(way, server.port, ["news.kept"], "earliest") as messages:
                async for message in messages:
                    promise.see(message)
                    if message["type"] == "notification":
                        seen.append({key: value for key, value in message.items() if key != "skipped"})
                    if len(seen) == len(sound):
                        await asyncio.to_thread(publish, server, "news.kept", "live")
                    if message.get("data") == "live":
                        return promise, seen
        promise, seen = run(read())
        assert epochless(seen[:-1]) == epochless(sound) and seen[-1]["sequence"] == 601
        assert [{key: told[key] for key in gap} for told in promise.gaps] == [gap]
        with http() as client:
            assert client.get(f"{server.url}/readyz").status_code == 200
            figures = client.get(f"{server.url}/metrics").text
        assert 'tocsin_log_read_faults_total{kind="damaged"} 1\n' in figures
        assert 'tocsin_log_read_faults_total{kind="failed"} 0\n' in figures
        server.answers()


def test_damage_is_logged_once_and_not_for_everybody_who_reads_over_it(damaged_log):
    path, sound, gap = damaged_log
    with serving(path) as server:
        start = poll(server, "news.kept")["position"].split(".")[0] + ".0"
        for _ in range(5):
            position, count, gaps = start, 0, []
            while count < len(sound):
                answer = poll(server, "news.kept", after=position)
                assert answer["messages"] and answer["position"] != position
                position = answer["position"]
                count += sum(message["type"] == "notification" for message in answer["messages"])
                gaps += [message for message in answer["messages"] if message["type"] == "gap"]
            assert [{key: told[key] for key in gap} for told in gaps] == [gap]
        assert server.stop() == 0
        lines = [entry for entry in server.log if "damaged" in entry["message"]]
        assert len(lines) == 1 and lines[0]["channel"] == "news.kept", lines


def test_a_log_that_stays_unreadable_is_said_to_polls_and_streams_and_the_file_is_not_asked_for_ever(sound_log, tmp_path):
    path = copy_of(sound_log[0], tmp_path)
    content = bytearray(path.read_bytes())
    # A leaf of the table of messages that is no page any more: nobody can tell what was behind it.
    page = next(at for at in range(4096, len(content), 4096) if content[at] == 13 and b"yyyy" in content[at:at + 4096])
    content[page] = 0x77
    path.write_bytes(content)
    with serving(path) as server, http() as client:
        epoch_start = poll(server, "news.else")["position"].split(".")[0] + ".0"
        for wait in (0, 2):
            answer = client.get(f"{server.url}/v1/subscribe?{query(['news.kept'], after=epoch_start, wait=wait)}")
            assert "corrupt" in assert_problem(answer, 503, "store-failed")["detail"] and answer.headers["retry-after"]
        with client.stream("GET", f"{server.url}/v1/subscribe?{query(['news.kept'], after=epoch_start)}",
                           headers={"Accept": "text/event-stream"}, timeout=20) as answer:
            assert "event: going-away" in "\n".join(answer.iter_lines())
        assert server.stop() == 0
        # Once for each way in which it is put, and not for every reader and try.
        said = [entry["error"] for entry in server.log if entry["message"] == "the log cannot be read"]
        assert 1 <= len(said) <= 3, said


def test_what_can_be_read_of_a_damaged_log_is_exported_and_imported_and_the_rest_is_a_gap(damaged_log, tmp_path):
    path, sound, gap = damaged_log
    answer = tocsin_log("export", path)
    assert answer.returncode == 1 and b"--skip-damaged" in answer.stderr and b'"end"' not in answer.stdout
    assert b"--partial" in tocsin_log("import", tmp_path / "new.sqlite", input=answer.stdout).stderr
    answer = run_log("export", path, "--skip-damaged")
    assert answer.returncode == 1 and f"messages {gap['from']} to {gap['to']} of channel news.kept" in answer.stderr.decode()
    assert answer.stdout.count(b"\n") > len(sound)
    made = tocsin_log("import", tmp_path / "new.sqlite", input=answer.stdout)
    assert made.returncode == 0, made.stderr
    with serving(tmp_path / "new.sqlite") as server:
        answer = publish(server, "news.kept", "live")
        assert answer["sequence"] == 601 and epoch(answer["position"]) != epoch(sound[0]["position"])
        seen, position = [], epoch(answer["position"]) + ".0"
        while len(seen) < len(sound) + 2:
            found = poll(server, "news.kept", after=position)
            seen, position = seen + found["messages"], found["position"]
        told = [message for message in seen if message["type"] == "gap"]
        assert [{key: one[key] for key in gap} for one in told] == [gap]
        plain = [{key: value for key, value in message.items() if key != "skipped"} for message in seen if message["type"] != "gap"]
        assert epochless(plain[:-1]) == epochless(sound) and plain[-1]["data"] == "live"
        assert [message["data"] for name in ("scores.kept", "alerts.kept") for message in history(server, name)] == [{"home": 1}, "fire"]


def test_damage_in_channels_of_every_kind_that_are_read_one_after_the_other_is_told_once_to_who_polls(store):
    names = ["alerts.a", "scores.b", "dashboards.c"]
    with serving(store) as server, http() as client:
        for commit in range(6):
            items = [{"channel": name, "data": f"{commit}-{number:03}-" + "y" * 300, "key": f"k{number % 7}"}
                     for number in range(100) for name in names]
            assert client.post(f"{server.url}/v1/publish", json=items).status_code == 201
        start = epoch(poll(server, "news.else")["position"]) + ".0"
        assert server.stop() == 0
    store.write_bytes(store.read_bytes().replace(b"3-041-", b"3-#41-"))
    with serving(store) as server:
        position, last, gaps = start, dict.fromkeys(names, 0), []
        for _ in range(60):
            answer = poll(server, ">", after=position)
            position = answer["position"]
            for message in answer["messages"]:
                if message["type"] == "gap":
                    gaps.append(message["channel"])
                    last[message["channel"]] = message["to"]
                else:
                    assert message["sequence"] == last[message["channel"]] + 1 + message.get("skipped", 0), message
                    last[message["channel"]] = message["sequence"]
            if not answer["messages"]:
                break
        assert last == dict.fromkeys(names, 600) and sorted(gaps) == ["alerts.a", "scores.b"]
