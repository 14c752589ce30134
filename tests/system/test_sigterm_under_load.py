"""SIGTERM: within 5 s when peers answer, within the grace when one is silent, at once at the second; nothing is lost
and, the end being orderly, nothing is sent twice."""

import signal
import time

from load import Load


def test_under_load(start_mta, start_sink, closing, to_peer):
    sink = start_sink()
    mta = start_mta(to_peer(sink))
    load = closing(Load(mta, clients=20))
    for _ in range(5):
        time.sleep(1)
        assert mta.stop() < 5
        mta.start()
    load.finish()
    mta.wait_empty(seconds=60)
    assert len(load.sent) > 100
    assert not [key for key in load.sent if key not in sink.counts]
    assert not [key for key, count in sink.counts.items() if count > 1]


def test_silent_peer(start_mta, start_peer, to_peer):
    """One session waits for the reply to its dot: it gets the grace."""
    peer = start_peer(script=[{"stage": "dot", "silence": True, "times": 1}])
    mta = start_mta(to_peer(peer, timeouts={"shutdown_grace": "3s"}))
    mta.submit("bert@dest.example", X_Test_Id="silent")
    peer.wait_for(lambda record: record.messages)
    took = mta.stop()
    assert 2.5 < took < 6
    mta.start()
    mta.wait_empty()
    assert peer.copies() == {"silent": {"bert@dest.example": 1}}


def test_reply_within_the_grace_counts(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "dot", "delay": 2}])
    mta = start_mta(to_peer(peer, timeouts={"shutdown_grace": "10s"}))
    mta.submit("bert@dest.example", X_Test_Id="late")
    peer.wait_for(lambda record: record.messages)
    assert mta.stop() < 5
    mta.start()
    mta.wait_empty()
    assert peer.copies() == {"late": {"bert@dest.example": 1}}


def test_second_signal(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "dot", "silence": True, "times": 1}])
    mta = start_mta(to_peer(peer))
    mta.submit("bert@dest.example", X_Test_Id="twice")
    peer.wait_for(lambda record: record.messages)
    mta.signal(signal.SIGTERM)
    time.sleep(0.5)
    begun = time.monotonic()
    mta.signal(signal.SIGTERM)
    assert mta.wait_exit(3) in (0, 1)
    assert time.monotonic() - begun < 2
    mta.check_sanitizers()
    mta.start()
    mta.wait_empty()


def test_idle_clients_do_not_hold_it(start_mta):
    mta = start_mta()
    idle = [mta.connect() for _ in range(20)]
    assert mta.stop() < 5
    for sock in idle:
        sock.close()


def test_silent_at_another_stage(start_mta, start_peer, to_peer):
    """What waits for anything but the dot's reply ends at once."""
    peer = start_peer(script=[{"stage": "rcpt", "silence": True}])
    mta = start_mta(to_peer(peer))
    mta.submit("bert@dest.example")
    peer.wait_for(lambda record: record.connections and len(record.connections[0].lines) >= 3)
    assert mta.stop() < 5
    mta.start()
    assert mta.queued() == 1
