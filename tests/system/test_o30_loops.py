"""Case O30: mail does not run in circles: MX hosts on this machine are skipped, and hops are counted."""

import pytest

from mta import message
from rawclient import Raw


@pytest.mark.parametrize("kind, address", [("A", "127.0.0.1"), ("A", "127.9.9.9"), ("A", "0.0.0.0"), ("AAAA", "::"),
                                           ("AAAA", "::1"), ("AAAA", "::ffff:127.0.0.1")])
def test_foreign_domain_points_at_us(start_mta, start_dns, start_peer, kind, address):
    peer = start_peer()
    dns = start_dns({("dest.example", "MX"): ["10 mx.dest.example."], ("mx.dest.example", kind): [address]})
    mta = start_mta({"dns": {"servers": [dns.text]}, "delivery": {"port": peer.port},
                     "routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]}]})
    identity = mta.submit("bert@dest.example")
    assert mta.wait_event("bounced", id=identity)["status"] == "5.4.6"
    peer.wait_for(lambda record: record.messages)  # the report, by the configured relay on loopback
    mta.wait_empty()
    assert len(peer.connections) == 1 and peer.messages[0].recipients == ["anna@sender.example"]


def test_mx_names_localhost(start_mta, start_dns, start_peer):
    peer = start_peer()
    dns = start_dns({("dest.example", "MX"): ["10 localhost."], ("localhost", "A"): ["127.0.0.1"]})
    mta = start_mta({"dns": {"servers": [dns.text]}, "delivery": {"port": peer.port},
                     "routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]}]})
    identity = mta.submit("bert@dest.example")
    assert mta.wait_event("bounced", id=identity)["status"] in ("5.4.6", "5.4.4")
    mta.wait_empty()
    assert len(peer.messages) == 1


def test_mx_is_our_own_name(start_mta, start_dns, start_peer):
    """Our host name among the MX: it and what is not better than it are left out (RFC 5321 section 5.1)."""
    peer = start_peer()
    dns = start_dns({("dest.example", "MX"): ["10 mta.sender.example."],
                     ("mta.sender.example", "A"): ["127.0.0.1"]})
    mta = start_mta({"dns": {"servers": [dns.text]},
                     "delivery": {"port": peer.port, "allow_private_addresses": True},
                     "routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]}]})
    identity = mta.submit("bert@dest.example")
    assert mta.wait_event("bounced", id=identity)["status"] == "5.4.6"
    mta.wait_empty()
    assert [m.recipients for m in peer.messages] == [["anna@sender.example"]]


def test_hop_limit(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    for received, taken in ((99, True), (100, True), (101, False)):
        content = b"Received: from a.example by b.example; Wed, 25 Nov 2026 01:02:03 +0000\r\n" * received + message()
        with Raw(mta) as client:
            client.envelope()
            client.send(content + b".\r\n")
            client.expect(250 if taken else 554, "queued as" if taken else "5.4.6")
    peer.wait_for(lambda record: len(record.messages) == 2)
    mta.wait_empty()
    assert [got.content.count(b"Received:") for got in peer.messages] == [100, 101]  # with ours
