"""Case O25, as far as there is no SMTPUTF8: an address with 8-bit bytes is refused where it is handed in; a domain's
ASCII form and 8-bit text in the header are taken."""

from mta import message
from rawclient import Raw

BAD = ["j\u00f6rg@dest.example".encode(), b"j\xf6rg@dest.example", b"a@dest\xff.example", "a@b\u00fccher.example".encode(),
       '"j\u00f6rg"@dest.example'.encode()]
GOOD = b"a@xn--bcher-kva.example"
LONG = b"a@xn--" + b"x" * 60 + b".example"  # a label over 63


def test_addresses(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    content = message(subject="Gr\u00fc\u00dfe", X_Name="\u4f60\u597d")
    with Raw(mta) as client:
        assert "SMTPUTF8" not in client.command("EHLO client.sender.example", 250)
        for address in BAD:
            client.send(b"MAIL FROM:<" + address + b">\r\n")
            client.expect(553, "5.6.7")
        client.command("MAIL FROM:<anna@sender.example> SMTPUTF8", 555, "5.5.4")
        client.command("MAIL FROM:<anna@sender.example>", 250)
        for address in BAD:
            client.send(b"RCPT TO:<" + address + b">\r\n")
            client.expect(553, "5.6.7")
        client.send(b"RCPT TO:<" + LONG + b">\r\n")
        client.expect(501, "5.1.3")
        client.send(b"RCPT TO:<" + GOOD + b">\r\nDATA\r\n" + content + b".\r\n")
        assert [client.reply()[0] for _ in range(3)] == [250, 354, 250]
    peer.wait_for(lambda record: record.messages)
    assert peer.messages[0].recipients == [GOOD.decode()] and peer.messages[0].content.endswith(content)
