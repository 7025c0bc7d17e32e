"""Each start of a server begins an epoch of its log: what positions of the epochs before are worth."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from support import Promise, assert_problem, following, http, publish, publish_many, run
from test_store import history, plain, poll, run_log, serving, store, tocsin_log  # noqa: F401: two are fixtures


ways = pytest.mark.parametrize("way", ["websocket", "sse", "long-poll"])


def received(way, server, channels, position, count):
    """So many messages, gaps among them."""
    async def work():
        async with following(way, server.port, channels, position) as source:
            return [await anext(source) for _ in range(count)]
    return run(work())


def put_back(copy, path):
    for ending in ("", "-wal", "-shm"):
        Path(str(path) + ending).unlink(missing_ok=True)
    shutil.copy(copy, path)


def back_up(path, copy):
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@ways
@pytest.mark.parametrize("passed", [False, True], ids=["before-it", "past-it"])
def test_who_saw_what_a_restored_backup_does_not_have_is_told_also_when_new_messages_have_passed_its_position(
        store, plain, tmp_path, way, passed):
    with serving(store) as server:
        said = [publish(server, plain, f"old {number}") for number in range(1, 11)]
        back_up(store, tmp_path / "copy")
        said += [publish(server, plain, f"old {number}") for number in range(11, 21)]
        assert server.stop() == 0
    put_back(tmp_path / "copy", store)
    with serving(store) as server:
        new = range(11, 26 if passed else 13)
        for number in new:
            publish(server, plain, f"new {number}")
        expected = [(number, f"new {number}") for number in new]
        gap, *rest = received(way, server, plain, said[19]["position"], 1 + len(new))
        assert (gap["type"], gap["reason"]) == ("gap", "epoch")
        assert [(message["sequence"], message["data"]) for message in rest] == expected
        # Who saw less than the backup has misses nothing.
        rest = received(way, server, plain, said[7]["position"], 2 + len(new))
        assert [(message["sequence"], message["data"]) for message in rest] == [(9, "old 9"), (10, "old 10")] + expected
        # It goes on from where the gap left it, also after another start.
        gone = gap["position"]
        assert server.stop() == 0
    with serving(store) as server:
        rest = received(way, server, plain, gone, len(new))
        assert [(message["type"], message["data"]) for message in rest] == [("notification", data) for _, data in expected]
        gap = received(way, server, plain, said[19]["position"], 1)[0]
        assert (gap["type"], gap["reason"]) == ("gap", "epoch")


def test_who_saw_what_a_log_has_lost_of_its_write_ahead_log_or_of_its_export_is_told(store, plain, tmp_path):
    with serving(store) as server:
        said = [publish(server, plain, f"old {number}") for number in range(1, 21)]
        server.kill()
    export = tocsin_log("export", store).stdout.splitlines(keepends=True)
    wal = Path(f"{store}-wal")
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size * 3 // 4)
    # The header, the channels, and ten messages.
    head = next(place for place, line in enumerate(export) if line.startswith(b'{"channel"'))
    other = tmp_path / "other.sqlite"
    part = b"".join(export[:head + 10])
    assert b"--partial" in tocsin_log("import", other, input=part).stderr
    assert run_log("import", other, "--partial", input=part).returncode == 0
    for path in (store, other):
        with serving(path) as server:
            kept = history(server, plain)[-1]["sequence"]
            assert 5 < kept < 20
            for number in range(kept + 1, 31):
                publish(server, plain, f"new {number}")
            gap, *rest = poll(server, plain, said[19]["position"])["messages"]
            assert (gap["type"], gap["reason"]) == ("gap", "epoch")
            assert [message["data"] for message in rest] == [f"new {number}" for number in range(kept + 1, 31)]
            assert poll(server, plain, said[kept - 1]["position"])["messages"][0]["data"] == f"new {kept + 1}"


@ways
def test_a_start_after_another_brings_neither_a_gap_nor_anything_twice(store, way):
    promise, seen, position = Promise(), [], None
    channels = ["news.a", "news.b", "alerts.c"]
    for life in range(4):
        with serving(store) as server:
            if position is None:
                position = poll(server, channels)["position"]
            publish_many(server, [(channels[number % 3], life * 30 + number) for number in range(30)])
            # Not all of it: the rest comes from the next one.
            for message in received(way, server, channels, position, 20):
                promise.see(message)
                seen.append(message["data"])
                position = message["position"]
            if life % 2:
                server.kill()
            else:
                assert server.stop() == 0
    assert seen == list(range(80)) and not promise.gaps and not promise.skipped


def test_a_page_of_the_inbox_goes_on_after_a_start(store):
    with serving(store) as server:
        for number in range(1, 6):
            publish(server, "alerts.a", number)
        with http() as client:
            page = client.get(f"{server.url}/v1/inbox?user=ann&channel=alerts.a&limit=2").json()
        assert server.stop() == 0
    with serving(store) as server, http() as client:
        page = client.get(f"{server.url}/v1/inbox?user=ann&channel=alerts.a&limit=2&before={page['before']}").json()
        assert [message["data"] for message in page["messages"]] == [3, 2]
        answer = client.get(f"{server.url}/v1/inbox?user=ann&channel=alerts.a&before=0123456789ab.3")
        assert_problem(answer, 400, "bad-parameter")
