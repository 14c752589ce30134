"""What clients leave out is added, what they repeat is refused; a relaying listener does neither."""

import email
import email.policy

import pytest

from mta import data, message, queued_id

REPEATED = [b"From: <eve@evil.example>", b"Date: Thu, 26 Nov 2026 01:02:03 +0000", b"subject : other", b"TO: <eve@evil.example>"]


def hand_in(mta, content, sender="anna@sender.example"):
    with mta.smtp() as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        assert client.rcpt("bert@dest.example")[0] == 250
        return data(client, content)


def test_missing_fields(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    queued_id(*hand_in(mta, b"X: y\r\n\r\nbody\r\n"))
    queued_id(*hand_in(mta, b"body without any field\r\n"))
    queued_id(*hand_in(mta, b"From anna Wed Nov 25 01:02:03 2026\r\nBcc: hidden@x.example\r\nX: y\r\n\r\nbody\r\n", sender=""))
    peer.wait_for(lambda record: len(record.messages) == 3)
    for got, sender in zip(peer.messages, ("anna@sender.example", "anna@sender.example", "MAILER-DAEMON@mta.sender.example")):
        parsed = email.message_from_bytes(got.content, policy=email.policy.default)
        assert parsed["From"].addresses[0].addr_spec == sender
        assert parsed["Date"].datetime and parsed["Message-ID"].endswith("@mta.sender.example>")
        assert parsed["Received"].startswith("by mta.sender.example with ESMTP id ")
        assert b"127.0.0.1" not in got.content and b"client.sender.example" not in got.content
        assert b"hidden" not in got.content


@pytest.mark.parametrize("role", ["submission", "relay"])
def test_repeated_fields(start_mta, start_peer, to_peer, role):
    peer = start_peer()
    mta = start_mta(to_peer(peer), listener={"role": role})
    for field in REPEATED:
        content = field + b"\r\n" + message()
        code, text = hand_in(mta, content)
        if role == "relay":
            queued_id(code, text)
            peer.wait_for(lambda record, wanted=content: any(got.content.endswith(wanted) for got in record.messages))
        else:
            assert code == 554 and text.startswith(b"5.6.0 Message has more than one ")
    if role == "submission":
        assert mta.queued() == 0 and not peer.messages
