"""Case O40: who is in Bcc is shown to nobody. Submission takes the field out, whatever its form, before it is signed;
the body and what is relayed stay as they are."""

import re

from mta import message
from vendors import dkimpy_verdict
from world import make_dkim_key

BCC = (b"Bcc: a@x.example,\r\n b@y.example\r\nbcc : c@z.example\r\nBCC:\r\n"
       b"Resent-Bcc: d@x.example\r\n")
BODY = b"Bcc: this is text\r\n\r\nbcc: and this\r\n"
HIDDEN = ["a@x.example", "b@y.example", "c@z.example"]


def content():
    return message(body=BODY.decode()).replace(b"To: ", BCC + b"To: ", 1)


def received(peer):
    peer.wait_for(lambda record: record.messages)
    return peer.messages[0].content


def test_submission_takes_it_out(start_mta, start_peer, to_peer, tmp_path):
    record = make_dkim_key(tmp_path / "key.pem")
    peer = start_peer()
    mta = start_mta(to_peer(peer, dkim=[{"domain": "sender.example", "selector": "s1", "key": str(tmp_path / "key.pem")}]))
    mta.submit(["bert@dest.example", *HIDDEN[:1]], content())
    got = received(peer)
    header, body = got.split(b"\r\n\r\n", 1)
    assert body == BODY
    assert not re.search(rb"(?i)bcc", header)  # not in h= either
    assert not any(address.encode() in header for address in HIDDEN)
    assert b"\r\nTo: <bert@dest.example>\r\n" in header
    assert dkimpy_verdict(got, {"s1._domainkey.sender.example": record})


def test_relaying_leaves_it(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer), listener={"role": "relay"})
    sent = content()
    mta.submit("bert@dest.example", sent)
    assert received(peer).endswith(sent)
