"""Connection attempts by the ten thousand from one address, which is limited: the others do not notice."""

import json
import subprocess
from pathlib import Path

import pytest

from siege import WatchedServer

ATTEMPTS_PER_SECOND = 20_000
ATTACKER = "127.0.0.66"


@pytest.fixture(scope="session")
def storm(tmp_path_factory):
    """The program that attempts."""
    program = tmp_path_factory.mktemp("connects") / "connects"
    source = Path(__file__).with_name("connects.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(source)], check=True, timeout=60)
    return program


@pytest.fixture
def limited(certificate, form):
    server = WatchedServer(certificate, form, ["--connection-rate-per-address", "100:200", "--connections-per-address", "1000"])
    yield server
    try:
        server.bystanders.take()
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("way", ["plain", "TLS"])
def test_twenty_thousand_attempts_a_second_from_one_address(limited, besiege, form, storm, way):
    def attack(server, deadline):
        port = server.tls_port if way == "TLS" else server.port
        seconds = max(0.5, deadline.left)
        line = [str(storm), str(port), ATTACKER, str(ATTEMPTS_PER_SECOND), f"{seconds:.2f}"] + (["idle"] if form.asserts_delays else [])
        done = json.loads(subprocess.run(line, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout)
        rate = done["attempts"] / seconds
        assert done["attempts"] > 0 and done["ended"] > 0, done
        assert not form.asserts_delays or rate >= 0.95 * ATTEMPTS_PER_SECOND, f"only {rate:.0f} attempts a second were made"
        return f"{rate:.0f} attempts a second, {done['connected']} connected, {done['ended']} ended by the server, {done['failed']} failed"

    besiege(limited, attack, name=f"connection attempts, {way}", growth_mib=24)
    refused = limited.metrics()['tocsin_limit_refusals_total{limit="connection_rate_per_address"}']
    assert refused > 100, f"only {refused:.0f} attempts were refused"
