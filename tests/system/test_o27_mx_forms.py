"""Case O27: no MX falls to the addresses; a null MX does not, and bounces at once (RFC 5321 section 5.1, RFC 7505)."""

import pytest

MX = ("dest.example", "MX")
LONG = ".".join(["a" * 49] * 4 + ["b" * 39, "example"])  # a name near the limit of 255 octets


def config(dns, port):
    return {"dns": {"servers": [dns.text]}, "delivery": {"port": port, "allow_private_addresses": True},
            "routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{port}"]}]}


@pytest.mark.parametrize("records", [
    {("dest.example", "A"): ["127.0.0.1"]},
    {MX: ["0 .", "10 mx.dest.example."], ("mx.dest.example", "A"): ["127.0.0.1"]},
    {MX: ["10 " + LONG + "."], (LONG, "A"): ["127.0.0.1"]},
    {MX: ["10 MX.Dest.Example."], ("mx.dest.example", "A"): ["127.0.0.1"]},
    {MX: ["10 mx.dest.example."] * 3, ("mx.dest.example", "A"): ["127.0.0.1"]},
], ids=["A only", "null among others", "long name", "upper case", "thrice"])
def test_delivered(start_mta, start_dns, start_peer, records):
    peer = start_peer()
    dns = start_dns(records)
    mta = start_mta(config(dns, peer.port))
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    assert len(peer.messages) == 1


def test_aaaa_only(start_mta, start_dns, start_peer):
    peer = start_peer("::1")
    dns = start_dns({("dest.example", "AAAA"): ["::1"]})
    mta = start_mta({"dns": {"servers": [dns.text]},
                     "delivery": {"port": peer.port, "allow_private_addresses": True}})
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    assert peer.connections[0].address == "::1"


@pytest.mark.parametrize("null", ["0 .", "10 ."])
def test_null_mx(start_mta, start_dns, start_peer, null):
    """An A record beside it changes nothing and is not asked for."""
    peer = start_peer()
    dns = start_dns({MX: [null], ("dest.example", "A"): ["127.0.0.1"]})
    mta = start_mta(config(dns, peer.port))
    identity = mta.submit("bert@dest.example")
    bounced = mta.wait_event("bounced", id=identity)
    assert bounced["status"] == "5.1.10"
    peer.wait_for(lambda record: record.accepted("anna@sender.example"))
    mta.wait_empty()
    assert len(peer.messages) == 1
    assert not dns.count("dest.example", "A") and not dns.count("dest.example", "AAAA")
    assert not any(name in ("", ".") for name, _ in dns.queries)


def test_preference_order(start_mta, start_dns, closing):
    """The lower preference first; the next only after a failure of the host."""
    from mta import free_port
    from peer import Peer
    port = free_port()
    first, second = closing(Peer("127.0.0.2", port)), closing(Peer("127.0.0.3", port))
    dns = start_dns({MX: ["20 b.dest.example.", "10 a.dest.example."],
                     ("a.dest.example", "A"): ["127.0.0.2"], ("b.dest.example", "A"): ["127.0.0.3"]})
    mta = start_mta({"dns": {"servers": [dns.text]}, "delivery": {"port": port, "allow_private_addresses": True},
                     "timeouts": {"idle": "1s"}})
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    assert len(first.messages) == 1 and not second.connections
    first.stop()
    identity = mta.submit("bert@dest.example")
    mta.wait_event("delivered", id=identity)
    assert len(second.messages) == 1
    assert not mta.events("deferred")
