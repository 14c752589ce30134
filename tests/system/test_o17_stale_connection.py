"""Case O17: a kept connection that the server has given up is replaced at once and costs no attempt; 421 at any
stage is the host's matter: deferred, never bounced."""

import pytest

SOON = {"timeouts": {"idle": "8s"}, "retry": {"intervals": ["1s"]}}


@pytest.mark.parametrize("end", [
    {"reply": "421 4.4.2 idle for too long", "close": True},
    {"reply": "421 4.4.2 idle for too long"},
    {"close": True},
    {"reset": True},
], ids=["421 and closed", "421 only", "closed", "reset"])
def test_idle_connection(start_mta, start_peer, to_peer, end):
    peer = start_peer(script=[{"stage": "idle", "after": 0.5, "connection": 1, "times": 1, **end}])
    mta = start_mta(to_peer(peer, **SOON))
    first = mta.submit("bert@dest.example", X_Test_Id="first")
    mta.wait_event("delivered", id=first)
    peer.wait_for(lambda record: any(stage == "idle" for _, stage, _ in record.connections[0].replies)
                  or record.connections[0].closed)
    second = mta.submit("bert@dest.example", X_Test_Id="second")
    delivered = mta.wait_event("delivered", id=second, seconds=5)
    mta.wait_empty()
    assert delivered.get("attempt", 1) == 1
    assert len(peer.connections) == 2
    assert not mta.events("deferred")
    assert peer.copies() == {"first": {"bert@dest.example": 1}, "second": {"bert@dest.example": 1}}


def test_idle_connection_is_reused(start_mta, start_peer, to_peer):
    """The other side of it: what is alive is used again."""
    peer = start_peer()
    mta = start_mta(to_peer(peer, **SOON))
    for number in range(3):
        mta.wait_event("delivered", id=mta.submit("bert@dest.example", X_Test_Id=str(number)))
    assert len(peer.connections) == 1 and len(peer.messages) == 3


@pytest.mark.parametrize("close", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
def test_421_at(start_mta, start_peer, to_peer, stage, close):
    peer = start_peer(script=[{"stage": stage, "connection": 1, "reply": "421 4.3.2 shutting down", "close": close}])
    mta = start_mta(to_peer(peer, **SOON))
    identity = mta.submit(["bert@dest.example", "carl@dest.example"], X_Test_Id="id")
    deferred = mta.wait_event("deferred", id=identity, count=2)
    assert deferred["code"] == 421 and "shutting down" in deferred["reply"]
    mta.wait_event("delivered", id=identity, count=2)
    mta.wait_empty()
    assert peer.copies() == {"id": {"bert@dest.example": 1, "carl@dest.example": 1}}
    assert len(peer.connections) == 2, "the connection was used on after 421"
    assert not mta.events("bounced")
