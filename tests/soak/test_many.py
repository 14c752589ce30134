"""Numbers that are too large for every day: 200 rounds of kill -9 (case O32), 10,000 bounces of bounces (O31)."""

import pytest

import test_kill9_loop
from load import Load


def test_200_rounds_of_kill9(start_mta, closing, to_peer, monkeypatch):
    monkeypatch.setattr(test_kill9_loop, "ROUNDS", 200)
    test_kill9_loop.test_kill9_loop(start_mta, closing, to_peer)


def test_ten_thousand_failing_senders(start_mta, start_peer, to_peer, closing):
    """The sender's domain refuses the report too: the queue ends empty, nothing grows."""
    peer = start_peer(script=[{"stage": "rcpt", "reply": "550 5.1.1 nobody here"}])
    mta = start_mta(to_peer(peer), build="release")
    load = closing(Load(mta, clients=20, count=10000))
    while load.running():
        assert mta.anonymous_kib() < 100 * 1024
    load.finish()
    mta.wait_empty(seconds=600)
    assert len(mta.events("bounced")) == 20000
    assert mta.anonymous_kib() < 100 * 1024


@pytest.mark.parametrize("hours", [1])
def test_steady_load(start_mta, start_sink, closing, to_peer, hours):
    """Memory and open files stay where they are."""
    import os
    import time
    sink = start_sink()
    mta = start_mta(to_peer(sink), build="release")
    load = closing(Load(mta, clients=10))
    time.sleep(60)
    memory, files = mta.anonymous_kib(), len(os.listdir(f"/proc/{mta.process.pid}/fd"))
    time.sleep(hours * 3600)
    assert mta.anonymous_kib() < memory * 1.2 + 4096
    assert len(os.listdir(f"/proc/{mta.process.pid}/fd")) < files + 20
    load.finish()
    mta.wait_empty(seconds=120)
    assert not [key for key in load.sent if sink.counts.get(key) != 1]
