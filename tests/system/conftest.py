"""What every system test has at hand. Speak to mtad as a black box: SMTP, DNS, log, mtactl, signals."""

import os
import shutil
import sys

import pytest

sys.dont_write_bytecode = True

from dnsserver import Dns  # noqa: E402
from mta import Mta  # noqa: E402
from peer import Peer  # noqa: E402
from sink import Sink  # noqa: E402
from vendors import ROOT, make_certificate  # noqa: E402
from world import MTA4, World  # noqa: E402

os.environ["PATH"] = f"{ROOT.parent}/bin:{os.environ['PATH']}"


@pytest.fixture
def closing():
    """Hands over things with a stop() or close(); they end in reverse order, all of them, whatever fails."""
    things = []

    def add(thing):
        things.append(thing)
        return thing

    yield add
    failures = []
    for thing in reversed(things):
        try:
            (thing.stop if hasattr(thing, "stop") else thing.close)()
        except (AssertionError, OSError) as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def start_mta(tmp_path, closing):
    """start_mta(config, ...) -> a running Mta; at the end it is stopped, and exit code and sanitizers are checked."""
    def start(config=None, wait=True, **options):
        mta = closing(Mta(tmp_path, config, **options))
        return mta.start() if wait else mta

    return start


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    """As start_mta, for all tests of a module: a start costs more than most cases. What one test leaves in the queue or
    the log the next one finds there."""
    running = []

    def start(config=None, **options):
        mta = Mta(tmp_path_factory.mktemp("shared"), config, **options)
        running.append(mta)
        return mta.start()

    yield start
    for mta in reversed(running):
        mta.stop()
        shutil.rmtree(mta.folder.parent, ignore_errors=True)


@pytest.fixture
def start_peer(closing):
    """start_peer(script=[...], ...) -> a running scripted SMTP server (peer.py)."""
    return lambda *arguments, **options: closing(Peer(*arguments, **options))


@pytest.fixture
def start_sink(closing):
    return lambda *arguments, **options: closing(Sink(*arguments, **options))


@pytest.fixture
def start_dns(closing):
    return lambda *arguments, **options: closing(Dns(*arguments, **options))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) of peer.example, self-signed."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), "peer.example")


@pytest.fixture
def to_peer():
    """to_peer(peer, ...) -> configuration that sends everything to one peer by a fixed route."""
    def config(peer, tls="opportunistic", **more):
        route = {"to": [f"{peer.address}:{peer.port}"], "tls": tls}
        return {"routes": [route], **more}

    return config


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Name servers and receivers of other vendors in network namespaces (world.py)."""
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture
def start_mta_in(start_mta, certificate):
    """An Mta in the world: by MX, with DKIM, STARTTLS offered."""
    def start(world, listener=None, **changes):
        config = world.config(tls={"certificate": str(certificate[0]), "key": str(certificate[1])}, **changes)
        return start_mta(config, host=world.mta, address=MTA4, port=587, listener={"tls": "optional", **(listener or {})})

    return start


@pytest.fixture(autouse=True)
def small_folders(request, tmp_path):
    """A passed test leaves nothing on the disk."""
    yield
    report = getattr(request.node, "report_call", None)
    if report is not None and report.passed:
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.report_call = outcome.get_result()
