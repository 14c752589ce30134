"""Case O16 with the waits that servers really have: default timeouts, minutes of silence, one copy each."""

import pytest

from mta import message


@pytest.mark.parametrize("delay", [5, 120, 590])
def test_late_reply(start_mta, start_peer, to_peer, delay):
    peer = start_peer(script=[{"stage": "dot", "delay": delay}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example", X_Test_Id="late")
    mta.wait_event("delivered", id=identity, seconds=delay + 60)
    mta.wait_empty()
    assert len(peer.messages) == 1 and not mta.events("deferred")


def test_no_reply(start_mta, start_peer, to_peer):
    """Never: given up after ten minutes, deferred once."""
    peer = start_peer(script=[{"stage": "dot", "silence": True, "times": 1}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example")
    deferred = mta.wait_event("deferred", id=identity, seconds=660)
    assert 595 < deferred["delay"] < 640
    mta.wait_event("delivered", id=identity, seconds=60)
    assert len(peer.messages) == 2


def test_trickle(start_mta, start_peer, to_peer):
    """20 MiB read over 15 minutes."""
    peer = start_peer(script=[{"stage": "content", "read_bytes": 24 * 1024, "interval": 1}], receive_buffer=16384)
    mta = start_mta(to_peer(peer))
    content = message(X_Test_Id="slow") + (b"y" * 76 + b"\r\n") * (20 * 1024 * 1024 // 78)
    identity = mta.submit("bert@dest.example", content)
    mta.wait_event("delivered", id=identity, seconds=1800)
    assert len(peer.messages) == 1 and not mta.events("deferred")
    assert peer.messages[0].dot_time - peer.messages[0].data_time > 600
