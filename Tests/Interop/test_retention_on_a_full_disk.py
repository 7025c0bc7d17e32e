"""A server on a disk that stays full: it starts, serves what there is, and a lower retention makes room."""

import pytest

from support import assert_problem, eventually, http, publish
from test_store import fill, history, plain, poll, serving, small_disk, tocsin_log  # noqa: F401: one is a fixture


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_server_starts_on_a_full_disk_and_a_lower_retention_makes_room(plain, killed):
    with small_disk("120m") as disk:
        path, filler = disk / "log.sqlite", disk / "filler"
        acknowledged = []
        with serving(path) as server, http() as client:
            assert (disk / "log.sqlite.reserve").stat().st_size == 20 << 20
            start = publish(server, plain, "first")["position"]
            with filler.open("ab") as file:
                file.write(b"\0" * 80_000_000)
            fill(server, client, plain, acknowledged, filler)
            assert len(acknowledged) > 50
            if killed:
                server.kill()
            else:
                assert server.stop() == 0
        # As it is: nothing is taken, everything can be read.
        with serving(path) as server, http() as client:
            # What the write-ahead log took is room once more.
            fill(server, client, plain, acknowledged, filler)
            assert "full" in assert_problem(client.get(f"{server.url}/readyz"), 503, "store-failed")["detail"]
            assert [message["data"] for message in history(server, plain)] == ["first"] + acknowledged
            assert poll(server, plain, start)["messages"][0]["data"] == acknowledged[0]
            assert server.stop() == 0
        with serving(path, "--keep-messages", "5") as server, http() as client:
            def is_taken():
                return client.post(f"{server.url}/v1/channels/{plain}", content='"' + "y" * 20_000 + '"').status_code == 201
            # It may take some pieces of retention until there is room for all of this.
            for _ in range(200):
                eventually(is_taken, "there is room", seconds=10)
            eventually(lambda: client.get(f"{server.url}/readyz").status_code == 200, "it is ready", seconds=10)
            assert server.stop() == 0
        assert tocsin_log("check", path).returncode == 0
