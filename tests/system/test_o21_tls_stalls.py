"""Case O21: a handshake that stalls is a handshake that failed: bounded by its own time, nobody else waits, and an
opportunistic delivery goes on in clear."""

import time

import pytest

STALLS = {
    "silence": {"silence": True},
    "clear text": {"raw": "250 ok\r\n"},
    "a byte now and then": {"raw": "\x16\x03\x03\x00\x7a" + "\x02" * 200, "pieces": 1, "interval": 0.5},
    "closed": {"close": True},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("kind", STALLS)
def test_opportunistic_goes_on_in_clear(start_mta, start_peer, certificate, kind):
    bad = start_peer(tls=certificate, script=[{"stage": "tls", **STALLS[kind]}])
    good = start_peer(tls=certificate)
    mta = start_mta({"routes": [{"match": {"recipients": ["bad.example"]}, "to": [f"127.0.0.1:{bad.port}"]},
                                {"to": [f"127.0.0.1:{good.port}"]}],
                     "timeouts": {"tls": "2s"}, "retry": {"intervals": ["1s"]}})
    begun = time.monotonic()
    stalled = mta.submit("bert@bad.example", X_Test_Id="bad")
    bad.wait_for(lambda record: record.connections)
    other = mta.submit("bert@good.example", X_Test_Id="good")
    mta.wait_event("delivered", id=other, seconds=2)
    delivered = mta.wait_event("delivered", id=stalled, seconds=15)
    assert time.monotonic() - begun < 12
    assert not delivered.get("tls")
    mta.wait_empty()
    assert bad.copies() == {"bad": {"bert@bad.example": 1}}
    assert good.messages[0].tls and bad.messages[0].tls is None
    assert all(b"MAIL" not in line[:4] for connection in bad.connections[:-1] for line in connection.commands())


def test_required_never_goes_in_clear(start_mta, start_peer, to_peer, certificate):
    peer = start_peer(tls=certificate, script=[{"stage": "tls", "silence": True}])
    mta = start_mta(to_peer(peer, tls="encrypt", timeouts={"tls": "1s"}, retry={"intervals": ["1s"]}))
    identity = mta.submit("bert@dest.example")
    deferred = mta.wait_event("deferred", id=identity, count=2)
    assert deferred["status"].startswith(("4.7.", "4.4."))
    assert not any(line[:4].upper() == b"MAIL" for connection in peer.connections for line in connection.commands())
