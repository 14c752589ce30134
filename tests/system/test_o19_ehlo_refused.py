"""Case O19: EHLO refused with 5xx falls back to HELO, without extensions; 421 and a closed connection do not."""

import pytest

from mta import message


@pytest.mark.parametrize("close", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("reply", ["500 5.5.1 what?", "502 5.5.1 not here", "504 no", "550 5.7.0 no EHLO"])
def test_helo_after_5xx(start_mta, start_peer, to_peer, reply, close):
    peer = start_peer(script=[{"stage": "ehlo", "reply": reply, "close": close}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example", message(X_Test_Id="helo", body="8 bit: \u00e4\r\n"))
    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    commands = [line for connection in peer.connections for line in connection.commands()]
    assert b"HELO mta.sender.example" in commands
    assert b"MAIL FROM:<anna@sender.example>" in commands, "parameters without the extension"
    reads = [data for _, data in peer.connections[-1].reads]
    assert not any(b"MAIL" in data and b"RCPT" in data for data in reads), "pipelined without PIPELINING"
    assert peer.copies() == {"helo": {"bert@dest.example": 1}}


@pytest.mark.parametrize("end", [{"reply": "421 4.3.2 come back", "close": True}, {"close": True}],
                         ids=["421", "no reply"])
def test_no_helo_after(start_mta, start_peer, to_peer, end):
    peer = start_peer(script=[{"stage": "ehlo", "connection": 1, **end}])
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example", X_Test_Id="id")
    deferred = mta.wait_event("deferred", id=identity)
    if "reply" in end:
        assert deferred["code"] == 421 and "come back" in deferred["reply"]
    mta.wait_event("delivered", id=identity)
    assert not any(line.upper().startswith(b"HELO")
                   for connection in peer.connections for line in connection.commands())
    assert not mta.events("bounced")


def test_helo_only_where_tls_is_required(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "ehlo", "reply": "502 5.5.1 not here"}])
    mta = start_mta(to_peer(peer, tls="encrypt", retry={"intervals": ["1h"]}))
    identity = mta.submit("bert@dest.example")
    deferred = mta.wait_event("deferred", id=identity)
    assert deferred["status"].startswith("4.7.")
    assert not any(line.upper().startswith(b"MAIL")
                   for connection in peer.connections for line in connection.commands())
