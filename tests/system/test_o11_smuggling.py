"""Case O11: only CRLF.CRLF ends the data; a second transaction cannot hide in a message."""

import pytest

from rawclient import Raw

FORGED = b"MAIL FROM:<forged@a.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\nX\r\n.\r\n"
ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\x00.\r\n", b"\r\r\n.\r\r\n"]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "one by one"])
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_forged_transaction(start_mta, start_peer, to_peer, end, one_by_one):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    with Raw(mta) as client:
        client.envelope()
        client.send(b"From: <anna@sender.example>\r\nSubject: x\r\n\r\nbody" + end + FORGED, one_by_one)
        code, text = client.reply()
        client.command("NOOP", 250)  # exactly one reply to all of it
        client.command("QUIT", 221)
    bare = b"\r" in end.replace(b"\r\n", b"") or b"\n" in end.replace(b"\r\n", b"")
    if bare:
        assert code in (550, 554) and text.startswith("5."), (code, text)
    mta.wait_empty()
    assert len(peer.messages) == (code == 250)
    assert all(message.sender != "forged@a.example" for message in peer.messages)
    for message in peer.messages:
        rest = message.raw.replace(b"\r\n", b"")
        assert b"\r" not in rest and b"\n" not in rest


def test_bare_lf_in_the_header(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    with Raw(mta) as client:
        client.envelope()
        client.send(b"Subject: x\nBcc: <evil@dest.example>\r\n\r\nbody\r\n.\r\n")
        code, _ = client.reply()
        assert code in (550, 554)
        client.command("NOOP", 250)
    assert mta.queued() == 0 and not peer.connections
