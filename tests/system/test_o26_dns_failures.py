"""Case O26: what a resolver cannot say now is temporary; only NXDOMAIN is final."""

import pytest

from peer import Peer

MX = ("dest.example", "MX")
A = ("mx.dest.example", "A")
TEMPORARY = {
    "SERVFAIL": {MX: "SERVFAIL"},
    "REFUSED": {MX: "REFUSED"},
    "FORMERR": {MX: "FORMERR"},
    "silence": {MX: "silence"},
    "TCP closed": {MX: "tcp-refused"},
    "address SERVFAIL": {MX: ["10 mx.dest.example."], A: "SERVFAIL", (A[0], "AAAA"): "SERVFAIL"},
}


def config(dns, peer, **more):
    return {"dns": {"servers": [dns.text]}, "delivery": {"port": peer.port, "allow_private_addresses": True},
            "routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]}], **more}


@pytest.mark.parametrize("kind", TEMPORARY)
def test_deferred_and_delivered_later(start_mta, start_dns, start_peer, kind):
    dns, peer = start_dns(TEMPORARY[kind]), start_peer()
    mta = start_mta(config(dns, peer))
    identity = mta.submit("bert@dest.example", X_Test_Id="dns")
    deferred = mta.wait_event("deferred", id=identity, seconds=60)
    assert deferred["status"] == "4.4.3"
    assert not mta.events("bounced") and not peer.connections
    dns.set({MX: ["10 mx.dest.example."], A: ["127.0.0.1"]})
    mta.wait_event("delivered", id=identity, seconds=60)
    assert peer.copies() == {"dns": {"bert@dest.example": 1}}


def test_no_such_domain(start_mta, start_dns, start_peer):
    dns, peer = start_dns({}), start_peer()
    mta = start_mta(config(dns, peer))
    identity = mta.submit("bert@dest.example")
    assert mta.wait_event("bounced", id=identity)["status"] == "5.1.2"
    peer.wait_for(lambda record: record.accepted("anna@sender.example"))


def test_no_mx_goes_on_with_the_address(start_mta, start_dns, start_peer):
    peer = start_peer()
    dns = start_dns({("dest.example", "A"): ["127.0.0.1"]})
    mta = start_mta(config(dns, peer))
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))


def test_no_target_exists(start_mta, start_dns, start_peer):
    """Deferred or bounced, and said why; never silent."""
    dns, peer = start_dns({MX: ["10 mx1.dest.example.", "20 mx2.dest.example."]}), start_peer()
    mta = start_mta(config(dns, peer))
    identity = mta.submit("bert@dest.example")
    peer.wait_for(lambda record: mta.events("bounced", id=identity) or mta.events("deferred", id=identity)
                  or record.messages)
    told = (mta.events("bounced", id=identity) or mta.events("deferred", id=identity))[0]
    assert told["status"] in ("5.4.4", "4.4.4", "4.4.3") and told["reply"]


def test_one_target_fails_the_other_works(start_mta, start_dns, closing):
    peer = closing(Peer())
    dns = start_dns({MX: ["10 broken.dest.example.", "20 mx.dest.example."], A: ["127.0.0.1"],
                     ("broken.dest.example", "A"): "SERVFAIL", ("broken.dest.example", "AAAA"): "SERVFAIL"})
    mta = start_mta(config(dns, peer))
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
