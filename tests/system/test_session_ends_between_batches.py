"""A unit that travels in several transactions: what the first ones achieved is kept when the session ends before the
rest, or the daemon does."""

import pytest

TWO_A_TRANSACTION = {"delivery": {"site": {"recipients_per_message": 2}}, "retry": {"intervals": ["1s"]}}
RECIPIENTS = [f"r{number}@dest.example" for number in range(6)]


@pytest.mark.parametrize("end", [{"close": True}, {"reset": True}, {"reply": "421 4.3.2 enough", "close": True},
                                 {"reply": "421 4.3.2 enough"}], ids=["closed", "reset", "421 and closed", "421"])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_server_ends_it(start_mta, start_peer, to_peer, stage, end):
    peer = start_peer(script=[{"stage": stage, "connection": 1, "transaction": 2, **end}])
    mta = start_mta(to_peer(peer, **TWO_A_TRANSACTION))
    identity = mta.submit(RECIPIENTS, X_Test_Id="batches")
    mta.wait_event("delivered", id=identity, count=6)
    mta.wait_empty()
    assert peer.copies()["batches"] == {address: 1 for address in RECIPIENTS}
    assert not mta.events("bounced")


def test_daemon_ends(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "mail", "transaction": 2, "connection": 1, "delay": 20}])
    mta = start_mta(to_peer(peer, **TWO_A_TRANSACTION))
    identity = mta.submit(RECIPIENTS, X_Test_Id="batches")
    peer.wait_for(lambda record: record.messages)
    mta.stop()
    mta.start()
    mta.wait_empty()
    assert peer.copies()["batches"] == {address: 1 for address in RECIPIENTS}
    assert len({event["recipient"] for event in mta.events("delivered", id=identity)}) == 6
