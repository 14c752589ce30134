"""Many clients, deliveries, admin commands and reloads at once, with the thread sanitizer watching."""

import signal

import pytest

from load import Load


@pytest.mark.heavy
def test_parallel_clients(start_mta, start_sink, closing, to_peer, certificate):
    sink = start_sink(tls=certificate)
    mta = start_mta(to_peer(sink), build="thread")
    load = closing(Load(mta, clients=20, count=6000, size=8192))
    rounds = 0
    while load.running():
        mta.ctl("status")
        for unit in mta.ctl("list", "--limit", "5"):
            mta.ctl_run("show", unit["id"])
            mta.ctl_run("retry", unit["id"])
        if rounds % 5 == 0:
            mta.signal(signal.SIGHUP)
        rounds += 1
    load.finish()
    assert not load.refused and not load.unsure
    mta.wait_empty(seconds=60)
    assert set(sink.counts) == load.sent and set(sink.counts.values()) == {1}
    assert rounds > 3


@pytest.mark.heavy
def test_failures_of_every_kind(start_mta, start_peer, to_peer, certificate):
    peer = start_peer(tls=certificate, script=[
        {"stage": "rcpt", "address": "no@dest.example", "reply": "550 5.1.1 no"},
        {"stage": "rcpt", "address": "later@dest.example", "times": 40, "reply": "451 4.2.1 later"},
        {"stage": "dot", "times": 10, "close": True}, {"stage": "mail", "times": 10, "reply": "421 4.3.2 bye"},
        {"stage": "tls", "times": 10, "close": True}])
    mta = start_mta(to_peer(peer), build="thread")
    for _ in range(60):
        mta.submit(["yes@dest.example", "no@dest.example", "later@dest.example"])
    mta.wait_empty(seconds=60)
    assert len(mta.events("bounced")) == 60
    assert len(mta.events("delivered")) == 180  # 120 recipients and 60 reports


@pytest.mark.heavy
def test_stop_in_the_middle(start_mta, start_sink, closing, to_peer):
    sink = start_sink()
    mta = start_mta(to_peer(sink), build="thread")
    load = closing(Load(mta, clients=10))
    for _ in range(4):
        mta.wait_event("delivered")
        mta.stop()
        mta.start()
    load.finish()
    mta.wait_empty(seconds=60)
    assert not [key for key in load.sent if sink.counts.get(key) != 1]
