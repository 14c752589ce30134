"""Case O24: a server that takes only so many recipients a message gets the rest at once in further transactions; a first
recipient answered 452 is an ordinary deferral."""

import pytest

RECIPIENTS = [f"r{number}@dest.example" for number in range(250)]


@pytest.mark.parametrize("reply", ["452 4.5.3 too many recipients", "552 5.5.3 too many recipients", "452 too many"])
def test_rest_follows_at_once(start_mta, start_peer, to_peer, reply):
    peer = start_peer(script=[{"stage": "rcpt", "when": lambda session: len(session.recipients) >= 40, "reply": reply}])
    mta = start_mta(to_peer(peer, retry={"intervals": ["1h"]}))
    identity = mta.submit(RECIPIENTS, X_Test_Id="many")
    mta.wait_event("delivered", id=identity, count=250)
    mta.wait_empty()
    assert peer.copies() == {"many": {recipient: 1 for recipient in RECIPIENTS}}
    assert not mta.events("deferred") and not mta.events("bounced")


def test_first_recipient(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "rcpt", "times": 3, "reply": "452 4.5.3 too many recipients"}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit(RECIPIENTS[:3], X_Test_Id="first")
    assert mta.wait_event("deferred", id=identity)["code"] == 452
    mta.wait_event("delivered", id=identity, count=3)
    mta.wait_empty()
    assert peer.copies() == {"first": {recipient: 1 for recipient in RECIPIENTS[:3]}}
