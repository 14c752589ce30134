"""The server says 451 at the first attempt and takes the message at a later one; nothing is sent twice, no DSN."""

import pytest


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot"])
def test_greylisting(start_mta, start_peer, to_peer, stage):
    peer = start_peer(script=[{"stage": stage, "times": 2, "reply": "451 4.7.1 greylisted, come back"}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example", X_Test_Id="grey")

    deferred = mta.wait_event("deferred", id=identity)
    assert (deferred["code"], deferred["status"]) == (451, "4.7.1") and "greylisted" in deferred["reply"]
    shown = mta.wait_show(identity, lambda it: it["recipients"][0]["attempts"])
    attempt = shown["recipients"][0]["attempts"][0]
    assert attempt["code"] == 451 and "greylisted" in attempt["text"]
    assert attempt["host"] and attempt["address"].startswith("127.0.0.1")

    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    assert peer.copies() == {"grey": {"bert@dest.example": 1}}
    assert len(mta.events("deferred", id=identity)) == 2
    assert not mta.events("bounced")
