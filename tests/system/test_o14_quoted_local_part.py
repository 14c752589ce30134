"""Case O14: a quoted local part keeps its quotes on the wire, or the address is refused; its content never becomes an
address or a parameter."""

from mta import data, message
from rawclient import Raw

GOOD = ['"foo@evil.test> ORCPT=a@b"@good.test', '"a b"@good.test', '"a\\"b"@good.test', '"a@b"@good.test',
        '""@good.test', 'a.b+c=d@good.test']
BAD = ['""', '"a"', 'a b@good.test', 'a@b@good.test', '"a@good.test', 'a"b"@good.test', '@good.test', 'a@', 'a@good..test',
       'a@-', '<a@good.test>']


def test_kept_or_refused(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    taken = []
    for address in GOOD:
        with mta.smtp() as client:
            client.ehlo()
            assert client.mail("anna@sender.example")[0] == 250
            code, _ = client.docmd("RCPT", f"TO:<{address}>")
            if code != 250:
                assert code in (501, 553), address
                continue
            assert data(client, message())[0] == 250
        taken.append(address)
        assert mta.wait_event("delivered", count=len(taken))["domain"] == "good.test", address
    assert '"a b"@good.test' in taken and 'a.b+c=d@good.test' in taken
    sent = [line for connection in peer.connections for line in connection.commands() if line.startswith(b"RCPT")]
    assert sent == [f"RCPT TO:<{address}>".encode() for address in taken]


def test_refused(start_mta):
    mta = start_mta(listener={"role": "relay"})
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.command("MAIL FROM:<anna@sender.example>", 250)
        for address in BAD:
            code, text = client.command(f"RCPT TO:<{address}>")
            assert code in (501, 553) and text.startswith("5.1.3 "), (address, code, text)
        client.command("DATA", 554)
