"""Case O04: a line over 998 octets is refused where the listener says so, and otherwise sent exactly as signed; the same
on the listeners that take the part of the ports 587, 465 and 25."""

import itertools

from mta import free_port, message
from rawclient import Door, Raw
from vendors import dkimpy_verdict
from world import make_dkim_key

LENGTHS = [998, 999, 1000, 1001, 20000]
PORTS = {587: {"tls": "optional"}, 465: {"tls": "implicit"}, 25: {"tls": "optional", "role": "relay"}}


def test_long_lines(start_mta, start_peer, to_peer, certificate, tmp_path):
    record = make_dkim_key(tmp_path / "key.pem")
    doors = [(port, long_lines, free_port()) for port, long_lines in itertools.product(PORTS, ("accept", "refuse"))]
    peer = start_peer()
    start_mta({
        **to_peer(peer), "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])},
        "dkim": [{"domain": "sender.example", "selector": "s1", "key": str(tmp_path / "key.pem")}],
        "listeners": [{"address": f"127.0.0.1:{own}", "auth": "off", "trusted": ["127.0.0.1"], "long_lines": long_lines,
                       **PORTS[port]} for port, long_lines, own in doors]}, port=doors[0][2])
    sent = []
    for (port, long_lines, own), length in itertools.product(doors, LENGTHS):
        content = message(body="short\r\n" + "x" * length + "\r\nshort\r\n")
        with Raw(Door(("127.0.0.1", own)), greet=port != 465) as client:
            if port == 465:
                client.handshake()
                client.expect(220)
            client.envelope()
            client.send(content + b".\r\n")
            if long_lines == "refuse" and length > 998:
                client.expect(554, "5.6.0")
            else:
                client.expect(250, "queued as")
                sent.append(content)
            client.command("NOOP", 250)
    assert len(sent) == len(PORTS) * (len(LENGTHS) + 1)
    peer.wait_for(lambda record: len(record.messages) == len(sent))
    left = list(sent)
    for got in peer.messages:
        whole, = (content for content in left if got.content.endswith(content))
        left.remove(whole)
        assert dkimpy_verdict(got.content, {"s1._domainkey.sender.example": record})
