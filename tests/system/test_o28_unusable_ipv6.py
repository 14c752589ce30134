"""Case O28: addresses that lead nowhere do not keep the mail from the one that works."""

import time

import pytest

from mta import free_port
from peer import Peer


def config(dns, port, **more):
    return {"dns": {"servers": [dns.text]}, "delivery": {"port": port, "allow_private_addresses": True}, **more}


def host(aaaa, a):
    return {("dest.example", "MX"): ["10 mx.dest.example."], ("mx.dest.example", "AAAA"): aaaa,
            ("mx.dest.example", "A"): a}


@pytest.mark.parametrize("address", ["fe80::1", "::ffff:0:0", "2001:db8::1"])
def test_dead_ipv6_and_good_ipv4(start_mta, start_dns, start_peer, address):
    peer = start_peer()
    dns = start_dns(host([address], ["127.0.0.1"]))
    mta = start_mta(config(dns, peer.port, timeouts={"connect": "2s"}))
    for _ in range(2):
        begun = time.monotonic()
        mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
        assert time.monotonic() - begun < 5
    assert not mta.events("deferred")


def test_silent_ipv6(start_mta, start_dns, closing):
    port = free_port()
    silent = closing(Peer("::1", port, script=[{"stage": "greeting", "silence": True}]))
    good = closing(Peer("127.0.0.1", port))
    dns = start_dns(host(["::1"], ["127.0.0.1"]))
    mta = start_mta(config(dns, port, timeouts={"greeting": "1s"}))
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"), seconds=10)
    assert len(good.messages) == 1 and len(silent.connections) <= 1
    assert not mta.events("deferred")


def test_forty_dead_addresses(start_mta, start_dns):
    port = free_port()
    dns = start_dns(host([f"2001:db8::{n:x}" for n in range(1, 21)], [f"127.0.1.{n}" for n in range(1, 21)]))
    mta = start_mta(config(dns, port, timeouts={"connect": "1s"}, retry={"intervals": ["1h"]}))
    identity = mta.submit("bert@dest.example")
    deferred = mta.wait_event("deferred", id=identity, seconds=45)
    assert deferred["status"].startswith("4.4.")
    assert not mta.events("bounced")
