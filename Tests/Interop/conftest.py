"""Fixtures: the server as a process, its certificate, channels that no other test uses."""

import os
import shutil
import uuid
from pathlib import Path

import pytest

from browsers import Chromium, Firefox
from support import Server, make_certificate

screenshots = pytest.StashKey[Path]()


def pytest_configure(config):
    missing = [program for program in ("curl", "openssl", "chromium") if not shutil.which(program)]
    if missing:
        raise pytest.UsageError(f"missing programs: {', '.join(missing)}; Tests/Interop/run installs them")


def pytest_terminal_summary(terminalreporter, config):
    folder = config.stash.get(screenshots, None)
    if folder:
        terminalreporter.write_line(f"screenshots: {folder}")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The paths of a self-signed certificate and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def shared(certificate):
    """Holds the server that tests share; a test that ended it does not take the others with it."""
    holder = {}
    yield holder
    if holder.get("server"):
        status = holder["server"].stop()
        assert status == 0, f"the shared server ended with {status}:\n{''.join(holder['server'].output[-40:])}"


@pytest.fixture
def server(shared, certificate):
    """A server that runs through the tests, with heartbeats each second, on a plain and on a TLS port."""
    if not shared.get("server") or not shared["server"].alive:
        shared["server"] = Server(certificate)
    server = shared["server"]
    yield server
    assert server.alive, f"the server ended with {server.process.returncode}:\n{''.join(server.output[-40:])}"


@pytest.fixture
def start_server(certificate):
    """Starts servers of the test's own; they are stopped after it."""
    started = []

    def start(**options):
        options.setdefault("certificate", certificate)
        started.append(Server(**options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def fresh_server(start_server):
    """A server of the test's own, to restart or to kill."""
    return start_server()


@pytest.fixture
def channel():
    """A channel that no other test uses."""
    return f"scores.{uuid.uuid4().hex[:12]}"


@pytest.fixture
def screenshot_folder(request, tmp_path_factory):
    """Where the screenshots go: TOCSIN_SCREENSHOTS, or a temporary folder; the summary names it."""
    named = os.environ.get("TOCSIN_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    request.config.stash[screenshots] = folder
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium") / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    browser = Firefox(tmp_path_factory.mktemp("firefox") / "profile")
    yield browser
    browser.close()


@pytest.fixture(params=["chromium", "firefox"])
def browser(request):
    """The one, then the other."""
    return request.getfixturevalue(request.param)
