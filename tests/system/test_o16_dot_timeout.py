"""Case O16: the reply to the final dot may come late; no second copy is sent while it may still come. Waits are
scaled by the timeout keys; tests/soak runs the literal ones."""

import pytest

from mta import message


@pytest.mark.parametrize("delay", [0.5, 2, 4.5])
def test_late_reply_within_the_limit(start_mta, start_peer, to_peer, delay):
    peer = start_peer(script=[{"stage": "dot", "delay": delay}])
    mta = start_mta(to_peer(peer, timeouts={"dot": "6s", "block": "1s", "data": "1s", "mail": "1s", "rcpt": "1s"}))
    identity = mta.submit("bert@dest.example", X_Test_Id="late")
    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    assert len(peer.messages) == 1
    assert not mta.events("deferred")


def test_never(start_mta, start_peer, to_peer):
    """No reply at all: deferred once when the time is over, with the words that the outcome is unknown."""
    peer = start_peer(script=[{"stage": "dot", "silence": True, "times": 1}])
    mta = start_mta(to_peer(peer, timeouts={"dot": "2s"}))
    identity = mta.submit("bert@dest.example", X_Test_Id="never")
    deferred = mta.wait_event("deferred", id=identity)
    assert deferred["status"].startswith("4.4.")
    attempt = mta.wait_show(identity, lambda it: it["recipients"][0]["attempts"])["recipients"][0]["attempts"][0]
    assert "unknown" in attempt["text"].lower()
    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    assert len(mta.events("deferred")) == 1 and len(peer.messages) == 2


def test_slow_reader(start_mta, start_peer, to_peer):
    """20 MiB read slowly: progress counts block by block, and the dot's clock starts at the last byte."""
    peer = start_peer(script=[{"stage": "content", "read_bytes": 262144, "interval": 0.02},
                              {"stage": "dot", "delay": 1}], receive_buffer=65536)
    mta = start_mta(to_peer(peer, timeouts={"block": "3s", "dot": "5s", "data": "1s"}))
    content = message(body="x" * 76 + "\r\n", X_Test_Id="slow") + (b"y" * 76 + b"\r\n") * (20 * 1024 * 1024 // 78)
    identity = mta.submit("bert@dest.example", content)
    mta.wait_event("delivered", id=identity, seconds=60)
    mta.wait_empty()
    assert len(peer.messages) == 1
    taken = peer.messages[0]
    assert taken.content.endswith(content)
    assert taken.dot_time - taken.data_time > 4, "the transfer was too fast to show anything"
    assert not mta.events("deferred")


def test_reader_that_stops(start_mta, start_peer, to_peer):
    """Not a byte is read any more: the block's clock ends the attempt."""
    peer = start_peer(script=[{"stage": "content", "after": 100000, "stop_reading": True, "times": 1}],
                      receive_buffer=65536)
    mta = start_mta(to_peer(peer, timeouts={"block": "2s"}))
    content = message(X_Test_Id="stops") + (b"y" * 76 + b"\r\n") * (20 * 1024 * 1024 // 78)
    identity = mta.submit("bert@dest.example", content)
    deferred = mta.wait_event("deferred", id=identity)
    assert deferred["status"].startswith("4.4.")
    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    assert peer.copies() == {"stops": {"bert@dest.example": 1}}
