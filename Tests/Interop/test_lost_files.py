"""A log whose files are taken away under the server."""

import os
import shutil
import subprocess

import pytest

from support import assert_problem, binary, eventually, http, publish
from test_store import history, plain, poll, serving, store  # noqa: F401: two are fixtures

ENDINGS = ("", "-wal", "-shm", ".lock")


def refused(server, client, channel):
    answer = client.post(f"{server.url}/v1/channels/{channel}", content="1")
    detail = assert_problem(answer, 503, "store-failed")["detail"]
    return detail


def is_not_ready(server, client):
    answer = client.get(f"{server.url}/readyz")
    return answer.status_code == 503 and "was removed or replaced while it was in use" in answer.json()["detail"]


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_log_that_is_removed_or_replaced_under_the_server_takes_nothing_more(store, plain, tmp_path, replaced, waits):
    with serving(store) as server, http() as client:
        start = publish(server, plain, 1)["position"]
        for ending in ENDINGS:
            os.unlink(f"{store}{ending}")
        if replaced:
            store.touch()
        if waits:
            eventually(lambda: is_not_ready(server, client), "/readyz says so, though nothing was published", seconds=5)
        refused(server, client, plain)
        eventually(lambda: is_not_ready(server, client), "/readyz says so", seconds=3)
        # It does not come back as an empty log.
        with pytest.raises(AssertionError):
            eventually(lambda: not is_not_ready(server, client), "it is ready", seconds=3)
        refused(server, client, plain)
        assert store.exists() == replaced and (not replaced or store.stat().st_size == 0)
        assert client.get(f"{server.url}/healthz").status_code == 200
        assert server.stop() == 0
    with serving(store) as server:
        assert publish(server, plain, 2)["sequence"] == 1
        gap, message = poll(server, plain, start)["messages"]
        assert (gap["type"], gap["reason"]) == ("gap", "epoch") and message["data"] == 2


@pytest.mark.parametrize("endings", [("",), ENDINGS], ids=["the-file", "all-files"])
def test_a_log_that_is_put_back_goes_on_by_itself_with_all_that_was_acknowledged(store, plain, tmp_path, endings):
    away = tmp_path / "away"
    away.mkdir()
    with serving(store) as server, http() as client:
        said = [publish(server, plain, number) for number in range(10)]
        for ending in endings:
            shutil.move(f"{store}{ending}", away / f"x{ending}")
        eventually(lambda: is_not_ready(server, client), "/readyz says so", seconds=5)
        refused(server, client, plain)
        for ending in endings:
            shutil.move(away / f"x{ending}", f"{store}{ending}")
        eventually(lambda: client.get(f"{server.url}/readyz").status_code == 200, "it goes on", seconds=8)
        answer = publish(server, plain, 10)
        assert answer["position"].split(".")[0] == said[0]["position"].split(".")[0]
        assert [message["data"] for message in history(server, plain)] == list(range(11))
        assert [message["data"] for message in poll(server, plain, said[9]["position"])["messages"]] == [10]
        server.kill()
    with serving(store) as server:
        assert [message["data"] for message in history(server, plain)] == list(range(11))


def test_a_lock_that_is_removed_is_taken_anew_and_keeps_a_second_server_out(store, plain):
    with serving(store) as server, http() as client:
        publish(server, plain, 1)
        os.unlink(f"{store}.lock")
        eventually(lambda: os.path.exists(f"{store}.lock"), "the lock is there again", seconds=5)
        second = subprocess.run([binary(), "serve", "--host", "127.0.0.1", "--port", "0", "--store", str(store)],
                                capture_output=True, text=True, timeout=20)
        assert second.returncode != 0 and "another process" in second.stderr
        eventually(lambda: client.get(f"{server.url}/readyz").status_code == 200, "it goes on", seconds=8)
        publish(server, plain, 2)
        assert [message["data"] for message in history(server, plain)] == [1, 2]
