"""Case O23: after STARTTLS comes a second EHLO, and only what that one offers counts."""

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
