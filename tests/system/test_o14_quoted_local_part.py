"""Case O14: a quoted local part keeps its quotes on the wire, or the address is refused; its content never becomes an
address or a parameter."""

import pytest

from mta import data, message
from rawclient import Raw

GOOD = ['"foo@evil.test> ORCPT=a@b"@good.test', '"a b"@good.test', '"a\\"b"@good.test', '"a@b"@good.test',
        '""@good.test', 'a.b+c=d@good.test']
BAD = ['""', '"a"', 'a b@good.test', 'a@b@good.test', '"a@good.test', 'a"b"@good.test', '@good.test', 'a@', 'a@good..test',
       'a@-', '<a@good.test>']


@pytest.mark.parametrize("address", GOOD)
def test_kept_or_refused(start_mta, start_peer, to_peer, address):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    with mta.smtp() as client:
        client.ehlo()
        assert client.mail("anna@sender.example")[0] == 250
        code, _ = client.docmd("RCPT", f"TO:<{address}>")
        if code != 250:
            assert code in (501, 553)
            return
        assert data(client, message())[0] == 250
    peer.wait_for(lambda record: record.messages)
    assert f"RCPT TO:<{address}>".encode() in peer.connections[0].commands()
    assert mta.wait_event("delivered")["domain"] == "good.test"


@pytest.mark.parametrize("address", BAD)
def test_refused(start_mta, address):
    mta = start_mta(listener={"role": "relay"})
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.command("MAIL FROM:<anna@sender.example>", 250)
        code, _ = client.command(f"RCPT TO:<{address}>")
        assert code in (501, 553)
