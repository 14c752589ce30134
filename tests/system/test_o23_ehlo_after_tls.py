"""Case O23: after STARTTLS comes a second EHLO, and only what that one offers counts. What somebody in the middle puts in
clear behind the 220 is no reply to it."""

import pytest

from mta import message


@pytest.mark.parametrize("after", [["PIPELINING"], []], ids=["pipelining", "nothing"])
def test_second_list_counts(start_mta, start_peer, to_peer, certificate, after):
    peer = start_peer(tls=certificate, extensions=["SIZE 1000", "AUTH PLAIN", "8BITMIME"], extensions_tls=after)
    mta = start_mta(to_peer(peer, tls="encrypt"))
    content = message(X_Test_Id="ehlo", body="x" * 70 + "\r\n") + b"more than 1000 octets\r\n" * 100
    mta.wait_event("delivered", id=mta.submit("bert@dest.example", content))
    commands = peer.connections[0].commands()
    assert [line.split()[0].upper() for line in commands[:4]] == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL"]
    assert commands[3] == b"MAIL FROM:<anna@sender.example>"
    assert peer.messages[0].content.endswith(content)
    piped = any(b"MAIL" in data and b"RCPT" in data for _, data in peer.connections[0].reads)
    assert piped == bool(after)
    assert peer.messages[0].tls


def test_injected_replies(start_mta, start_peer, to_peer, certificate):
    """Case O10 from the other side: were the injected replies believed, EHLO, MAIL and RCPT were answered before they are
    sent, and the size limit would end the delivery."""
    injected = "220 go\r\n250-evil\r\n250 SIZE 10\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n25"
    peer = start_peer(tls=certificate, script=[{"stage": "starttls", "reply": None, "raw": injected}])
    mta = start_mta(to_peer(peer, tls="encrypt"))
    content = message(X_Test_Id="injected")
    mta.wait_event("delivered", id=mta.submit("bert@dest.example", content))
    assert peer.messages[0].content.endswith(content) and peer.messages[0].tls
    assert len(peer.connections) == 1 and not mta.events("deferred")
