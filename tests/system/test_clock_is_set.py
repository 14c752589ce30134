"""The clock is set while the daemon runs or stands still, far forward or far back: no mail is lost, none is tried in a
rush, and nothing expires that was not tried since. (The arithmetic has its tests in tests/unit.)"""

import struct
import time

import pytest

from mta import BUILD

LATER = [{"stage": "rcpt", "reply": "451 4.2.1 later"}]
DAY = 86400


class Clock:
    """A wall clock of its own for a process (tests/tools/wall_clock.c); the monotonic one runs as it does."""

    def __init__(self, folder):
        self.file = open(folder / "clock", "w+b", buffering=0)
        self.set(0)
        self.env = {"LD_PRELOAD": str(BUILD / "release" / "bin" / "wall_clock.so"), "WALL_CLOCK": self.file.name}

    def set(self, seconds):
        """So far from ours."""
        self.file.seek(0)
        self.file.write(struct.pack("=q", seconds * 10**9))

    def close(self):
        self.file.close()


@pytest.fixture
def clock(tmp_path, closing):
    return closing(Clock(tmp_path))


def start(start_mta, clock, config):
    return start_mta(config, build="release", env=clock.env)


def tries(peer):
    return sum(line.upper().startswith(b"RCPT") and b"@dest.example" in line
               for connection in peer.connections for _, line in connection.lines)


@pytest.mark.parametrize("days", [10, -365])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_jump(start_mta, start_peer, to_peer, clock, days, stopped):
    """Messages that wait for their next attempt in an hour, and an expiry of five days."""
    peer = start_peer(script=LATER)
    mta = start(start_mta, clock, to_peer(peer, retry={"intervals": ["1h"], "expire": "5d"}))
    identities = [mta.submit("bert@dest.example") for _ in range(30)]
    for identity in identities:
        mta.wait_event("deferred", id=identity)
    if stopped:
        mta.stop()
    clock.set(days * DAY)
    if stopped:
        mta.start()
    begun = time.monotonic()
    while tries(peer) < 60:  # once more each, when the step is noticed
        assert time.monotonic() - begun < 15, mta.log()[-3000:]
        time.sleep(0.1)
    time.sleep(1)
    assert tries(peer) == 60  # not in a rush
    ended = mta.events("expired") + mta.events("bounced")
    if days > 0 and stopped:  # they are too old indeed, as far as anybody knows, and were tried once more
        assert len(ended) == 30
    else:
        assert not ended and mta.queued() == 30
        peer.script([])
        mta.ctl("retry", "--all")
        mta.wait_empty()
        assert len({message.header("Message-ID") for message in peer.accepted()}) == 30


def test_from_1970(start_mta, start_peer, to_peer, clock):
    """A machine without a clock of its own: mail is accepted in 1970, and then the network tells the time."""
    peer = start_peer(script=LATER)
    clock.set(600 - int(time.time()))
    mta = start(start_mta, clock, to_peer(peer, retry={"intervals": ["2s"], "expire": "5d"}))
    identity = mta.submit("bert@dest.example")
    assert mta.wait_event("deferred", id=identity)["time"].startswith("1970")
    clock.set(0)
    mta.wait_event("deferred", id=identity, count=3, seconds=30)
    assert not mta.events("expired")
    mta.stop()
    mta.start()  # nobody remembers the step now, but 1970 is no time at which we took mail
    mta.wait_event("deferred", id=identity, count=5, seconds=30)
    assert not mta.events("expired")
    peer.script([])
    mta.wait_empty()
    assert len(peer.accepted()) == 1


def test_there_and_back(start_mta, start_peer, to_peer, clock):
    """A wrong time for some seconds: mail that was accepted and deferred meanwhile goes on as if nothing had been."""
    peer = start_peer(script=LATER)
    mta = start(start_mta, clock, to_peer(peer, retry={"intervals": ["2s"], "expire": "1d"}))
    before = mta.submit("bert@dest.example")
    mta.wait_event("deferred", id=before)
    clock.set(3650 * DAY)
    meanwhile = mta.submit("bert@dest.example")
    mta.wait_event("deferred", id=meanwhile)
    clock.set(0)
    for identity in (before, meanwhile):
        mta.wait_event("deferred", id=identity, count=3, seconds=45)
    assert not mta.events("expired") and mta.queued() == 2
    told = [event["text"].split(":")[0] for event in mta.events("queue")]
    assert told == ["the clock was set forward", "the clock was set back"]  # once each, whoever saw it first
    peer.script([])
    mta.wait_empty()
    assert len(peer.accepted()) == 2
