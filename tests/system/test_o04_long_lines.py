"""Case O04: a line over 998 octets is refused where the listener says so, and otherwise sent exactly as signed."""

import pytest

from mta import message
from rawclient import Raw
from vendors import dkimpy_verdict
from world import make_dkim_key

LENGTHS = [998, 999, 1000, 1001, 20000]


@pytest.mark.parametrize("length", LENGTHS)
def test_accepted(start_mta, start_peer, to_peer, tmp_path, length):
    record = make_dkim_key(tmp_path / "key.pem")
    peer = start_peer()
    mta = start_mta(to_peer(peer, dkim=[{"domain": "sender.example", "selector": "s1", "key": str(tmp_path / "key.pem")}]))
    content = message(body="short\r\n" + "x" * length + "\r\nshort\r\n")
    mta.wait_event("delivered", id=mta.submit("bert@dest.example", content))
    got = peer.messages[0].content
    assert got.endswith(content)
    assert dkimpy_verdict(got, {"s1._domainkey.sender.example": record})


@pytest.mark.parametrize("length", LENGTHS)
def test_refused(start_mta, start_peer, to_peer, length):
    peer = start_peer()
    mta = start_mta(to_peer(peer), listener={"long_lines": "refuse"})
    with Raw(mta) as client:
        client.envelope()
        client.send(message(body="x" * length + "\r\n") + b".\r\n")
        code, text = client.reply()
        assert (code == 250) == (length <= 998) and (code == 250 or 500 <= code <= 599 and text.startswith("5.")), text
        client.command("NOOP", 250)
