"""Case O01 by way of submission: a message without a body, or with blank lines alone, has the hash of nothing, however
its end comes."""

from rawclient import Raw
from vendors import dkimpy_verdict
from world import make_dkim_key

HEADER = (b"From: <anna@sender.example>\r\nTo: <bert@dest.example>\r\nSubject: x\r\nDate: Wed, 25 Nov 2026 01:02:03 +0000\r\n"
          b"Message-ID: <%d@sender.example>\r\n")
BODIES = [b"", b"\r\n", b"\r\n\r\n\r\n\r\n"]  # the first without even the line between


def test_empty_body(start_mta, start_peer, to_peer, tmp_path):
    record = make_dkim_key(tmp_path / "key.pem")
    peer = start_peer()
    mta = start_mta(to_peer(peer, dkim=[{"domain": "sender.example", "selector": "s1", "key": str(tmp_path / "key.pem")}]))
    sent = []
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        for body in BODIES:
            for chunks in (False, True):
                content = HEADER % len(sent) + body
                sent.append(content)
                client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\n")
                client.send(b"BDAT %d LAST\r\n%s" % (len(content), content) if chunks else b"DATA\r\n" + content + b".\r\n")
                assert [client.reply()[0] for _ in range(3 if chunks else 4)][-1] == 250
    peer.wait_for(lambda record: len(record.messages) == len(sent))
    for got in peer.messages:
        assert b"c=relaxed/relaxed;" in got.content
        assert b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;" in got.content, got.content
        assert dkimpy_verdict(got.content, {"s1._domainkey.sender.example": record})
