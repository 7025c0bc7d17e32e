"""Fixtures: servers with bystanders, and the form in which attacks run."""

import shutil
import uuid

import pytest

import siege
from support import Server, make_certificate

# Short, so that a test need not wait; long enough that nobody well-behaved meets them.
DEADLINES = {"--handshake-timeout": 1, "--head-timeout": 1, "--body-timeout": 1, "--idle-timeout": 2, "--stall-timeout": 2}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="each attack for 20 s, and the delays of the others are asserted")


def pytest_configure(config):
    missing = [program for program in ("openssl", "prlimit", "gcc") if not shutil.which(program)]
    if missing:
        raise pytest.UsageError(f"missing programs: {', '.join(missing)}; Tests/Attacks/run installs them")


def pytest_terminal_summary(terminalreporter):
    if siege.report:
        terminalreporter.section("attacks")
        for line in siege.report:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def form(request):
    return siege.LONG if request.config.getoption("--long") else siege.SHORT


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


class Holder:
    """A server that tests share; one that an attack has ended is replaced, and so are bystanders that have seen a fault."""

    def __init__(self, certificate, form, flags=()):
        self.certificate, self.form, self.flags, self.server = certificate, form, flags, None

    def get(self):
        if self.server is None:
            self.server = siege.WatchedServer(self.certificate, self.form, self.flags)
        return self.server

    def check(self):
        """Nothing was lost meanwhile, and the server lives."""
        server = self.server
        try:
            assert server.alive, f"the server ended with {server.process.returncode}:\n{''.join(server.output[-40:])}"
            server.bystanders.take()
        except AssertionError:
            self.end()
            raise

    def end(self):
        server, self.server = self.server, None
        return server.stop() if server else 0


@pytest.fixture(scope="session")
def shared(certificate, form):
    holder = Holder(certificate, form)
    yield holder
    assert holder.end() == 0


@pytest.fixture
def server(shared):
    """The server that is attacked, with the limits that it has by itself."""
    yield shared.get()
    shared.check()


@pytest.fixture(scope="session")
def shared_hasty(certificate, form):
    missing = sorted(set(DEADLINES) - siege.served_flags())
    if missing:
        yield missing
        return
    holder = Holder(certificate, form, [part for name, seconds in DEADLINES.items() for part in (name, str(seconds))])
    yield holder
    assert holder.end() == 0


@pytest.fixture
def hasty(shared_hasty):
    """A server whose deadlines are a second or two."""
    assert isinstance(shared_hasty, Holder), f"this server has no flag {', '.join(shared_hasty)}"
    yield shared_hasty.get()
    shared_hasty.check()


@pytest.fixture
def start_server(certificate):
    """Starts servers of the test's own, with the flags given; they are stopped after it."""
    started = []

    def start(*flags):
        started.append(Server(certificate, heartbeat=5, arguments=flags))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def besiege(form):
    def run(server, *attacks, **options):
        siege.besiege(server, form, *attacks, **options)
    return run


@pytest.fixture
def channel():
    """A channel of a plain feed that no other test uses."""
    return f"attacked.{uuid.uuid4().hex[:12]}"
