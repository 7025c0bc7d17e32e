"""The log on disk: what outlives a crash, a full disk, a damaged file; and `tocsin log`."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support import (Promise, Server, assert_problem, async_http, binary, epoch, epochless, eventually, following, http, publish,
                     publish_many, query, run)

NOBODY = 65534


def serve(path, *arguments):
    """A server over the file."""
    return Server(arguments=("--store", str(path), *arguments))


@contextlib.contextmanager
def serving(path, *arguments):
    """The same, for a while; it is stopped in an orderly way, unless it was killed before."""
    server = serve(path, *arguments)
    try:
        yield server
    finally:
        server.stop()


def run_log(command, path, *arguments, **options):
    return subprocess.run([binary(), "log", command, "--store", str(path), *arguments], capture_output=True, timeout=30, **options)


def tocsin_log(command, path, **options):
    return run_log(command, path, **options)


def history(server, channel):
    """All that the channel has, page by page."""
    found, after = [], 0
    with http() as client:
        while True:
            answer = client.get(f"{server.url}/v1/channels/{channel}/history", params={"after": after, "limit": 1000})
            assert answer.status_code == 200, answer.text
            found += answer.json()["messages"]
            if not answer.json()["more"]:
                return found
            after = found[-1]["sequence"]


def poll(server, channels, after=None, **items):
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?{query(channels, after=after, wait=0, **items)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_who_was_told_that_a_message_is_stored_finds_it_on_any_connection(server):
    """Each read is on a connection of its own, so as likely as not on another thread of the server than the publisher's."""
    for kind in ("news", "scores"):
        name = f"{kind}.{uuid.uuid4().hex[:12]}"
        last = publish(server, name, {"n": 0})
        for n in range(1, 100):
            position, last = last["position"], publish(server, name, {"n": n})
            with http() as client:
                if n % 4 == 0:
                    found = client.get(f"{server.url}/v1/channels/{name}").json()["sequence"]
                elif n % 4 == 1:
                    found = client.get(f"{server.url}/v1/channels/{name}/history?after={n}").json()["messages"][0]["sequence"]
                elif n % 4 == 2 or kind == "news":
                    answer = client.get(f"{server.url}/v1/subscribe?{query([name], after=position, wait=0)}").json()
                    found = answer["messages"][0]["sequence"]
                else:
                    found = client.get(f"{server.url}/v1/channels/{name}/snapshot").json()["sequence"]
            assert found == last["sequence"] == n + 1


@pytest.fixture
def store(tmp_path):
    return tmp_path / "log.sqlite"


@pytest.fixture
def plain():
    """A channel of a feed without a kind."""
    return f"news.{uuid.uuid4().hex[:12]}"


durabilities = pytest.mark.parametrize("durability", ["disk", "memory"])


@durabilities
def test_a_server_that_was_killed_goes_on_where_it_was_with_its_positions_and_history(store, plain, durability):
    with serving(store, "--durability", durability) as server:
        said = [publish(server, plain, number) for number in range(1, 31)]
        before = history(server, plain)
        server.kill()
    with serving(store, "--durability", durability) as server:
        assert epochless(history(server, plain)) == epochless(before), "the very same objects, with their times and numbers"
        body = poll(server, plain, said[26]["position"])
        assert [message["sequence"] for message in body["messages"]] == [28, 29, 30]
        assert [message["type"] for message in body["messages"]] == ["notification"] * 3
        assert poll(server, plain, body["position"])["messages"] == []
        answer = publish(server, plain, 31)
        assert answer["sequence"] == 31 and epoch(answer["position"]) != epoch(said[0]["position"])
        assert [message["data"] for message in poll(server, plain, body["position"])["messages"]] == [31]
        with http() as client:
            info = client.get(f"{server.url}/v1/channels/{plain}").json()
        assert (info["sequence"], info["first_sequence"], info["count"]) == (31, 1, 31)


def test_an_idempotency_key_is_known_after_a_crash_and_another_request_under_it_is_refused(store, plain):
    url, batch = f"/v1/channels/{plain}", [{"channel": plain, "data": 1}, {"channel": "bad channel", "data": 2}]
    one, many = {"Idempotency-Key": "one"}, {"Idempotency-Key": "many"}
    with serving(store) as server, http() as client:
        first = client.post(server.url + url, content='{"a":1}', headers=one)
        several = client.post(f"{server.url}/v1/publish", json=batch, headers=many)
        assert (first.status_code, several.status_code) == (201, 201)
        server.kill()
    with serving(store) as server, http() as client:
        again = client.post(server.url + url, content='{"a":1}', headers=one)
        assert again.status_code == 200 and epochless(again.json()) == epochless(first.json())
        assert_problem(client.post(server.url + url, content='{"a":2}', headers=one), 409, "idempotency-key-reused")
        again = client.post(f"{server.url}/v1/publish", json=batch, headers=many)
        assert again.status_code in (200, 201), again.text
        assert epochless(again.json()["results"][0]) == epochless(several.json()["results"][0])
        assert "error" in again.json()["results"][1]
        assert [message["sequence"] for message in history(server, plain)] == [1, 2], "nothing was taken twice"


@durabilities
def test_everything_acknowledged_before_a_kill_in_full_swing_is_there_each_of_three_times(store, plain, durability):
    acknowledged = {}

    def publisher(url, number):
        with http() as client, contextlib.suppress(httpx.TransportError):
            for count in range(100_000):
                data = f"{number}-{count}-{uuid.uuid4().hex}"
                answer = client.post(f"{url}/v1/channels/{plain}", content=f'"{data}"')
                if answer.status_code == 503:
                    return
                assert answer.status_code == 201, answer.text
                acknowledged[answer.json()["sequence"]] = data

    for _ in range(3):
        with serving(store, "--durability", durability) as server, ThreadPoolExecutor(4) as pool:
            target = len(acknowledged) + 60
            work = [pool.submit(publisher, server.url, number) for number in range(4)]
            eventually(lambda: len(acknowledged) >= target, "publications are acknowledged", every=0.005)
            server.kill()
            for future in work:
                future.result(20)
    with serving(store, "--durability", durability) as server:
        found = history(server, plain)
    assert [message["sequence"] for message in found] == list(range(1, len(found) + 1))
    kept = {message["sequence"]: message["data"] for message in found}
    assert {sequence: kept.get(sequence) for sequence in acknowledged} == acknowledged
    assert len(found) <= len(acknowledged) + 12, "at most what was under way at each kill was not acknowledged"
    assert len(set(kept.values())) == len(kept)


@pytest.mark.parametrize("way", ["websocket", "sse", "long-poll"])
def test_a_subscriber_resumes_without_a_gap_on_the_server_that_was_started_after_the_kill(store, plain, way):
    names = [f"{plain}.a", f"{plain}.b"]

    async def read(server, position, count):
        seen = []
        async with following(way, server.port, f"{plain}.*", position) as source:
            while len(seen) < count:
                seen.append(await anext(source))
        return seen

    with serving(store) as server:
        start = poll(server, f"{plain}.*")["position"]
        publish_many(server, [(names[number % 2], number) for number in range(40)])
        seen = run(read(server, start, 15))
        server.kill()
    with serving(store) as server:
        publish_many(server, [(names[number % 2], number) for number in range(40, 60)])
        seen += run(read(server, seen[-1]["position"], 45))
    promise = Promise()
    for message in seen:
        promise.see(message)
    assert [message["data"] for message in seen] == list(range(60)) and not promise.gaps and not promise.skipped


def test_a_subscriber_gets_nothing_that_a_kill_takes_back(store, plain):
    """No position that a subscriber saw is ahead of the log after a crash."""
    seen = []
    with serving(store) as server:
        start = poll(server, plain)["position"]

        async def work():
            async with async_http() as client, following("websocket", server.port, plain, start) as source:
                for number in range(50):
                    await client.post(f"{server.url}/v1/channels/{plain}", content=str(number))
                async for message in source:
                    seen.append(message)
                    if len(seen) == 50:
                        server.process.send_signal(signal.SIGKILL)
                        return
        run(work())
        server.kill()
    with serving(store) as server:
        assert epochless(history(server, plain)) == epochless(seen)
        assert poll(server, plain, seen[-1]["position"])["messages"] == []


def test_what_is_kept_and_what_is_gone_is_the_same_after_a_restart(store, plain):
    with serving(store, "--keep-messages", "5") as server:
        said = [publish(server, plain, number) for number in range(1, 21)]
        assert server.stop() == 0
    with serving(store, "--keep-messages", "5") as server:
        assert [message["data"] for message in history(server, plain)] == [16, 17, 18, 19, 20]
        gap, *rest = poll(server, plain, said[9]["position"])["messages"]
        assert gap["type"] == "gap" and gap["reason"] == "retention" and gap["from"] <= 11 and gap["to"] == 15
        assert [message["sequence"] for message in rest] == [16, 17, 18, 19, 20]
        assert publish(server, plain, 21)["sequence"] == 21


# Full disks.

@contextlib.contextmanager
def small_disk(size):
    if os.geteuid() != 0:
        pytest.fail("only root mounts a small disk")
    folder = tempfile.mkdtemp(prefix="tocsin-disk-")
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tocsin-test", folder], capture_output=True).returncode:
            pytest.fail("this host does not let its root mount a disk")
        try:
            # To be taken away when there has to be space again.
            (Path(folder) / "filler").write_bytes(b"\0" * 1_000_000)
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        os.rmdir(folder)


def fill(server, client, channel, acknowledged, filler):
    """Publishes until the disk is full, and takes what space is left after that; answers the first refusal."""
    answer = fill_log_until_refused(server, client, channel, acknowledged)
    with filler.open("ab", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(b"\0" * 4096)

    def is_told():
        with contextlib.suppress(AssertionError):
            fill_log_until_refused(server, client, channel, acknowledged)
        return client.get(f"{server.url}/readyz").status_code == 503
    eventually(is_told, "/readyz tells that the disk is full")
    return answer


def fill_log_until_refused(server, client, channel, acknowledged):
    for number in range(1000):
        text = f"{number:06}" + "x" * 20_000
        answer = client.post(f"{server.url}/v1/channels/{channel}", content=f'"{text}"')
        if answer.status_code != 201:
            return answer
        acknowledged.append(text)
    raise AssertionError("the disk was never full")


def start_while_full(path, client, channel):
    """A server that is started now says that the disk is full: it does not start, or it takes nothing."""
    try:
        server = serve(path)
    except AssertionError as error:
        assert "is full" in str(error)
        return
    try:
        answer = client.post(f"{server.url}/v1/channels/{channel}", content='"' + "x" * 200_000 + '"')
        assert_problem(answer, 503, "store-failed")
    finally:
        server.kill()


@pytest.mark.parametrize("killed", [False, True], ids=["going-on", "killed-while-full"])
def test_a_full_disk_is_told_loses_nothing_and_is_over_when_there_is_space(plain, killed):
    with small_disk("3m") as disk:
        filler = disk / "filler"
        acknowledged = []
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(serving(disk / "log.sqlite"))
            client = stack.enter_context(http())
            publish(server, "alerts.full", 1)
            start = poll(server, plain)["position"]
            refusal = fill(server, client, plain, acknowledged, filler)
            assert len(acknowledged) > 10
            assert_problem(refusal, 503, "store-failed")
            assert int(refusal.headers["retry-after"]) > 0
            ready = client.get(f"{server.url}/readyz")
            assert "full" in assert_problem(ready, 503, "store-failed")["detail"]
            assert client.get(f"{server.url}/healthz").status_code == 200
            messages = poll(server, plain, start)["messages"]
            assert [message["data"] for message in messages] == acknowledged[:len(messages)] and messages, "subscribers are still served"
            assert [message["data"] for message in history(server, plain)] == acknowledged, "reading needs no space"
            if killed:
                server.kill()
                start_while_full(disk / "log.sqlite", client, plain)
            filler.unlink()
            if killed:
                server = stack.enter_context(serving(disk / "log.sqlite"))

            def taken():
                answer = client.post(f"{server.url}/v1/channels/{plain}", content='"after"')
                return answer if answer.status_code == 201 else None
            answer = eventually(taken, "publishing works again by itself", seconds=8)
            acknowledged.append("after")
            assert answer.json()["sequence"] == len(acknowledged)
            assert client.get(f"{server.url}/readyz").status_code == 200
            assert [message["data"] for message in history(server, plain)] == acknowledged
            server.kill()
        with serving(disk / "log.sqlite") as server:
            assert [message["data"] for message in history(server, plain)] == acknowledged
        report = tocsin_log("check", disk / "log.sqlite")
        assert report.returncode == 0, report.stdout + report.stderr


def test_a_batch_that_a_full_disk_refuses_is_not_called_a_bad_request(plain):
    with small_disk("3m") as disk, serving(disk / "log.sqlite") as server, http() as client:
        fill(server, client, plain, [], disk / "filler")
        answer = client.post(f"{server.url}/v1/publish", json=[{"channel": plain, "data": "y" * 20_000}] * 2)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0 and "store-failed" in answer.text


def test_an_ack_that_cannot_be_stored_is_refused_and_not_told_to_anybody(plain):
    with small_disk("3m") as disk, serving(disk / "log.sqlite") as server, http() as client:
        publish(server, "alerts.full", 1)
        fill(server, client, plain, [], disk / "filler")
        answer = client.post(f"{server.url}/v1/acks", json={"user": "ann", "channel": "alerts.full", "through": 1})
        assert_problem(answer, 503, "store-failed")
        (disk / "filler").unlink()
        eventually(lambda: client.get(f"{server.url}/readyz").status_code == 200, "it goes on")
        assert poll(server, "alerts.full", user="ann")["unread"] == 1


def test_who_publishes_again_under_a_key_that_a_full_disk_refused_is_taken_once(plain):
    with small_disk("3m") as disk:
        filler = disk / "filler"
        acknowledged = []
        with serving(disk / "log.sqlite") as server, http() as client:
            position = poll(server, plain)["position"]
            fill(server, client, plain, acknowledged, filler)

            def post():
                return client.post(
                    f"{server.url}/v1/channels/{plain}", content='"' + "k" * 20_000 + '"', headers={"Idempotency-Key": "again"})
            assert_problem(post(), 503, "store-failed")
            filler.unlink()
            answer = eventually(lambda: (given := post()).status_code != 503 and given, "it is taken", seconds=8, every=0.3)
            assert answer.status_code == 201 and post().status_code == 200
            messages = []
            while len(messages) <= len(acknowledged):
                body = poll(server, plain, position)
                assert body["messages"]
                messages, position = messages + body["messages"], body["position"]
            assert [message["sequence"] for message in messages] == list(range(1, len(acknowledged) + 2))
            assert not poll(server, plain, position)["messages"]


# Files that a server does not take.

def refused(path, *words, user=None):
    """The server does not start over this, and says so in one line that has all these words."""
    options = {"user": user, "group": user, "extra_groups": []} if user else {}
    ended = subprocess.run([binary(), "serve", "--host", "127.0.0.1", "--port", "0", "--store", str(path)],
                           capture_output=True, text=True, timeout=20, **options)
    assert ended.returncode != 0
    lines = ended.stderr.strip().split("\n")
    assert len(lines) == 1, ended.stderr
    for word in (str(path), *words):
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    assert not re.search(r"\w+\(\w+:|Optional\(|Fatal", lines[0]), f"words, not a value printed: {lines[0]}"


@contextlib.contextmanager
def unprivileged_folder():
    """A folder of somebody who is bound by permissions, and who that is (None: who runs this)."""
    user = NOBODY if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="tocsin-folder-"))
    try:
        if user:
            os.chown(folder, user, user)
            reachable = subprocess.run([binary(), "--version"], user=user, group=user, extra_groups=[], capture_output=True)
            if reachable.returncode:
                pytest.fail("the server's binary is out of reach for others than root")
        yield folder, user
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sound_log(tmp_path_factory):
    """A log, and what its messages are."""
    path = tmp_path_factory.mktemp("sound") / "log.sqlite"
    with serving(path) as server:
        publish_many(server, [("news.kept", f"{number:05}" + "y" * 400) for number in range(600)])
        publish(server, "scores.kept", {"home": 1})
        publish(server, "alerts.kept", "fire")
        known = history(server, "news.kept")
        assert server.stop() == 0
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path, known


def copy_of(path, folder):
    shutil.copy(path, folder / "copy.sqlite")
    return folder / "copy.sqlite"


def test_a_folder_that_cannot_be_written_to_keeps_the_server_from_starting(sound_log):
    with unprivileged_folder() as (folder, user):
        path = copy_of(sound_log[0], folder)
        if user:
            os.chown(path, user, user)
        folder.chmod(0o555)
        refused(path, "cannot be written", user=user)
        refused(folder / "new.sqlite", "cannot be written", user=user)


def test_a_file_that_cannot_be_written_to_keeps_the_server_from_starting(sound_log):
    with unprivileged_folder() as (folder, user):
        path = copy_of(sound_log[0], folder)
        if user:
            os.chown(path, user, user)
        path.chmod(0o444)
        refused(path, "cannot be written", user=user)


@pytest.mark.parametrize("content", [b"hello\n", b"Dear diary, " * 2000, bytes(range(256)) * 100],
                         ids=["a-line", "a-text", "bytes"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(store, content):
    store.write_bytes(content)
    refused(store, "not a log")
    assert store.read_bytes() == content
    answer = tocsin_log("check", store)
    assert answer.returncode != 0 and b"not a log" in answer.stderr


def test_the_database_of_another_application_is_refused_and_left_as_it_was(store):
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.executescript("CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO accounts VALUES (1, 'x')")
    before = store.read_bytes()
    refused(store, "not a log")
    assert store.read_bytes() == before


def test_a_log_of_a_newer_version_is_refused_and_left_as_it_was(sound_log, tmp_path):
    path = copy_of(sound_log[0], tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    refused(path, "newer", "99")
    assert path.read_bytes() == before
    for command in ("check", "compact", "export"):
        answer = tocsin_log(command, path)
        assert answer.returncode != 0 and b"newer" in answer.stderr and answer.stdout == b""
    assert path.read_bytes() == before


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    refused(tmp_path)
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "log.sqlite")


def test_a_second_server_on_the_same_file_does_not_start_and_the_first_goes_on(store, plain):
    with serving(store) as server:
        publish(server, plain, 1)
        refused(store, "another process")
        answer = tocsin_log("compact", store)
        assert answer.returncode != 0 and b"another process" in answer.stderr
        assert publish(server, plain, 2)["sequence"] == 2
        server.kill()
    with serving(store) as server:
        assert [message["data"] for message in history(server, plain)] == [1, 2]


# Files with flipped bytes.

@pytest.mark.parametrize("part", range(8))
def test_flipped_bytes_are_told_as_corrupt_or_do_no_harm_and_are_never_handed_out(sound_log, tmp_path, part):
    path, known = copy_of(sound_log[0], tmp_path), sound_log[1]
    content = bytearray(path.read_bytes())
    place = 8192 + (len(content) - 8192) * (2 * part + 1) // 16
    for index in range(place, min(place + 64, len(content))):
        content[index] ^= 0x55
    path.write_bytes(content)
    sound = tocsin_log("check", path).returncode == 0
    try:
        server = serve(path)
    except AssertionError as error:
        assert re.search("corrupt|damaged", str(error)), str(error)
        assert not sound, "`tocsin log check` found nothing wrong"
        return
    told = False
    try:
        with http() as client:
            for after in range(0, 600, 50):
                answer = client.get(f"{server.url}/v1/channels/news.kept/history", params={"after": after, "limit": 50})
                if answer.status_code == 503:
                    assert re.search("corrupt|damaged", assert_problem(answer, 503, "store-failed")["detail"])
                    told = True
                else:
                    messages = answer.json()["messages"]
                    expected = epochless(known[after:after + len(messages)])
                    assert messages and epochless(messages) == expected, "a page ends before what is damaged"
                    told = told or len(messages) < 50
            for kind, data in (("scores", {"home": 1}), ("alerts", "fire")):
                answer = client.get(f"{server.url}/v1/channels/{kind}.kept/history")
                if answer.status_code == 503:
                    assert re.search("corrupt|damaged", assert_problem(answer, 503, "store-failed")["detail"])
                    told = True
                else:
                    assert [message["data"] for message in answer.json()["messages"]] == [data]
            answer = client.get(f"{server.url}/v1/channels/scores.kept/snapshot")
            assert answer.status_code == 503 or answer.json()["data"] == {"home": 1}
    finally:
        server.stop()
    if sound:
        assert not told, "`tocsin log check` found nothing wrong"


def test_some_flipped_bytes_of_messages_are_noticed_by_check_which_says_which_channel(sound_log, tmp_path):
    path = copy_of(sound_log[0], tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"00300yyyy")
    content[place] ^= 0x01
    path.write_bytes(content)
    answer = tocsin_log("check", path)
    assert answer.returncode == 1 and b"news.kept" in answer.stdout + answer.stderr
    answer = tocsin_log("export", path)
    assert b'10300yyyy' not in answer.stdout, "what was changed is not handed out"
    with serving(path) as server, http() as client:
        answer = client.get(f"{server.url}/v1/channels/news.kept/history", params={"after": 290, "limit": 20})
        assert re.search("corrupt|damaged", assert_problem(answer, 503, "store-failed")["detail"])
        server.answers()


# tocsin log

def fill_log(server):
    """Something of everything."""
    positions = [publish(server, "news.a", number)["position"] for number in range(1, 21)]
    publish(server, "news.b", {"ü": "\u2028\x00\"", "n": [1.50, 1e3, -0.0]}, event="e", priority="critical")
    publish(server, "scores.s", {"home": 0, "away": 0, "gone": 1})
    publish(server, "scores.s", {"home": 1, "gone": None}, change="merge")
    publish(server, "dashboards.d", 1, key="cpu")
    publish(server, "dashboards.d", 2, key="cpu")
    publish(server, "dashboards.d", 3, key="memory")
    for number in range(4):
        publish(server, "alerts.x", number, ttl=3600, replaces=f"k{number % 3}")
    with http() as client:
        text = client.post(f"{server.url}/v1/channels/news.text", content="one\ntwo", headers={"Content-Type": "text/plain"})
        data = client.post(
            f"{server.url}/v1/channels/news.bytes", content=bytes(range(256)), headers={"Content-Type": "application/octet-stream"})
        ack = client.post(f"{server.url}/v1/acks", json={"user": "ann", "channel": "alerts.x", "sequences": [3], "dismiss": True})
        assert [answer.status_code for answer in (text, data, ack)] == [201, 201, 200], ack.text
    return positions


def picture(server):
    """What a client can know of it."""
    with http() as client:
        def get(path):
            return client.get(server.url + path).json()
        return epochless({
            "histories": [history(server, name) for name in ("news.a", "news.b", "news.text", "news.bytes", "alerts.x", "scores.s")],
            "states": [{**get(f"/v1/channels/{name}/snapshot"), "time": None} for name in ("scores.s", "dashboards.d")],
            "inbox": get("/v1/inbox?user=ann&channel=alerts.>"),
            "other": get("/v1/inbox?user=bob&channel=alerts.>"),
        })


def test_export_import_export_is_byte_for_byte_the_same_and_positions_stay_valid(store, tmp_path):
    other, third = tmp_path / "other.sqlite", tmp_path / "third.sqlite"
    with serving(store, "--keep-messages", "15") as server:
        positions = fill_log(server)
        before = picture(server)
        assert server.stop() == 0
    first = tocsin_log("export", store)
    assert first.returncode == 0 and first.stderr == b"" and first.stdout.count(b"\n") > 20
    for source, target in ((first, other), (None, third)):
        made = tocsin_log("import", target, input=(source or second).stdout)
        assert made.returncode == 0, made.stderr
        second = tocsin_log("export", target)
        assert second.stdout == first.stdout
        assert tocsin_log("check", target).returncode == 0
    with serving(other, "--keep-messages", "15") as server:
        assert picture(server) == before
        messages = poll(server, "news.a", positions[16])["messages"]
        assert [message["data"] for message in messages] == [18, 19, 20]
        assert poll(server, "news.a", positions[1])["messages"][0]["reason"] == "retention"
        answer = publish(server, "news.a", 21)
        assert answer["sequence"] == 21
        assert [message["data"] for message in poll(server, "news.a", messages[-1]["position"])["messages"]] == [21]


def test_import_refuses_a_file_that_is_there_and_what_is_no_export_and_says_which_line(store, tmp_path, sound_log):
    export = tocsin_log("export", sound_log[0]).stdout
    path = copy_of(sound_log[0], tmp_path)
    before = path.read_bytes()
    answer = tocsin_log("import", path, input=export)
    assert answer.returncode != 0 and answer.stderr.strip() and path.read_bytes() == before
    lines = export.splitlines(keepends=True)
    for broken in (b"", b"hello\n", b"".join(lines[:8]) + b'{"channel":"news.kept","seq\n'):
        answer = tocsin_log("import", store, input=broken)
        assert answer.returncode != 0 and len(answer.stderr.strip().splitlines()) == 1, answer.stderr
        assert not store.exists() or store.stat().st_size == 0, "half a log is not left behind"
    assert b"9" in answer.stderr.replace(str(store).encode(), b""), f"the line is named: {answer.stderr}"


def test_an_export_that_was_cut_off_is_not_taken_for_a_whole_log(store, sound_log):
    lines = tocsin_log("export", sound_log[0]).stdout.splitlines(keepends=True)
    answer = tocsin_log("import", store, input=b"".join(lines[:len(lines) // 2] + lines[len(lines) // 2 + 1:]))
    assert answer.returncode != 0 and answer.stderr.strip(), "a message in the middle is missing"


def test_compact_gives_space_back_and_changes_nothing_else(store):
    with serving(store, "--keep-messages", "10") as server:
        positions = fill_log(server)
        before = picture(server)
        assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.executescript("CREATE TABLE holes (b BLOB); INSERT INTO holes VALUES (zeroblob(3000000)); DROP TABLE holes")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = store.stat().st_size
    assert size > 3_000_000
    exported = tocsin_log("export", store).stdout
    answer = tocsin_log("compact", store)
    assert answer.returncode == 0, answer.stderr
    assert store.stat().st_size < 1_000_000
    assert tocsin_log("export", store).stdout == exported
    with serving(store, "--keep-messages", "10") as server:
        assert picture(server) == before
        assert [message["data"] for message in poll(server, "news.a", positions[17])["messages"]] == [19, 20]


def test_the_file_shrinks_by_itself_when_what_is_kept_gets_less(store, plain):
    with serving(store) as server:
        for _ in range(3):
            publish_many(server, [(plain, str(number) + "z" * 2000) for number in range(500)])
        assert server.stop() == 0
    size = store.stat().st_size
    with serving(store, "--keep-messages", "10") as server:
        eventually(lambda: store.stat().st_size < size / 2, "space is given back", seconds=10)
        assert len(history(server, plain)) == 10


@pytest.mark.parametrize("command", ["check", "compact", "export"])
def test_a_log_that_is_not_there_is_not_made_by_looking_at_it(store, command):
    answer = tocsin_log(command, store)
    assert answer.returncode != 0 and len(answer.stderr.strip().splitlines()) == 1 and str(store).encode() in answer.stderr
    assert not store.exists()


def test_two_requests_under_one_key_at_once_on_a_slow_commit_get_one_result(store, plain):
    with serving(store) as server:
        start, answers = threading.Barrier(8), []

        def post():
            with http() as client:
                start.wait(5)
                answers.append(client.post(f"{server.url}/v1/channels/{plain}", content="1", headers={"Idempotency-Key": "x"}))
        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        assert len({answer.text for answer in answers}) == 1 and len(history(server, plain)) == 1
