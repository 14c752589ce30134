"""Case O05: 8-bit content goes out unchanged to every peer; BODY=8BITMIME is said where it is offered."""

import pytest

from peer_serving import EXTENSIONS
from vendors import dkimpy_verdict
from world import make_dkim_key

CONTENT = ("From: <anna@sender.example>\r\nTo: <bert@dest.example>\r\nSubject: 8 bit\r\nMIME-Version: 1.0\r\n"
           "Date: Wed, 25 Nov 2026 01:02:03 +0000\r\nMessage-ID: <8@sender.example>\r\n"
           "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
           "Gr\u00fc\u00dfe \u4f60\u597d\r\n").encode()


@pytest.mark.parametrize("kind", ["8BITMIME", "not declared", "without", "HELO only"])
def test_unchanged(start_mta, start_peer, to_peer, tmp_path, kind):
    record = make_dkim_key(tmp_path / "key.pem")
    peer = start_peer(extensions=[e for e in EXTENSIONS if kind in ("8BITMIME", "not declared") or e != "8BITMIME"],
                      script=[{"stage": "ehlo", "reply": "502 5.5.1 no"}] if kind == "HELO only" else [])
    mta = start_mta(to_peer(peer, dkim=[{"domain": "sender.example", "selector": "s1", "key": str(tmp_path / "key.pem")}]))
    with mta.smtp() as client:
        client.sendmail("anna@sender.example", ["bert@dest.example"], CONTENT,
                        mail_options=[] if kind == "not declared" else ["BODY=8BITMIME"])
    peer.wait_for(lambda record: record.messages)
    got = peer.messages[0]
    assert got.content.endswith(CONTENT)
    assert ("BODY=8BITMIME" in got.parameters) == (kind in ("8BITMIME", "not declared"))
    assert dkimpy_verdict(got.content, {"s1._domainkey.sender.example": record})
