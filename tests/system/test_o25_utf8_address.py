"""Case O25, as far as there is no SMTPUTF8: an address with 8-bit bytes is refused where it is handed in."""

import pytest

from rawclient import Raw


@pytest.mark.parametrize("address", ["j\u00f6rg@dest.example".encode(), b"j\xf6rg@dest.example", b"a@dest\xff.example"])
def test_refused(start_mta, address):
    mta = start_mta()
    with Raw(mta) as client:
        text = client.command("EHLO client.sender.example", 250)
        assert "SMTPUTF8" not in text
        client.send(b"MAIL FROM:<" + address + b">\r\n")
        code, reply = client.reply()
        assert code in (501, 553) and reply.startswith("5."), reply
        client.command("MAIL FROM:<anna@sender.example>", 250)
        client.send(b"RCPT TO:<" + address + b">\r\n")
        code, reply = client.reply()
        assert code in (501, 553) and reply.startswith("5."), reply
        client.command("RCPT TO:<bert@dest.example>", 250)
