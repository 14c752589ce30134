"""Case O29: a dead name server before a good one costs seconds once, not for every message; large answers come over
TCP on the same port."""

import time

from mta import free_port
from peer import Peer


def test_first_server_dead(start_mta, start_dns, start_peer):
    peer = start_peer()
    records = {}
    for number in range(30):
        records[(f"d{number}.example", "MX")] = [f"10 mx{number}.example."]
        records[(f"mx{number}.example", "A")] = ["127.0.0.1"]
    dns = start_dns(records)
    mta = start_mta({"dns": {"servers": [f"127.0.0.1:{free_port()}", dns.text]},
                     "delivery": {"port": peer.port, "allow_private_addresses": True}})
    begun = time.monotonic()
    for number in range(30):
        mta.submit(f"bert@d{number}.example")
    mta.wait_event("delivered", count=30, seconds=30)
    assert time.monotonic() - begun < 20
    begun = time.monotonic()
    mta.wait_event("delivered", id=mta.submit("bert@d1.example"))
    assert time.monotonic() - begun < 2
    assert not mta.events("deferred")


def test_sixty_mx_records(start_mta, start_dns, closing):
    peer = closing(Peer())
    names = [f"mail-exchanger-number-{n}.some-long-domain-name.dest.example" for n in range(60)]
    dns = start_dns({("dest.example", "MX"): [f"{n + 10} {name}." for n, name in enumerate(names)],
                     (names[0], "A"): ["127.0.0.1"]})
    mta = start_mta({"dns": {"servers": [dns.text]}, "delivery": {"port": peer.port, "allow_private_addresses": True}})
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    assert dns.count("dest.example", "MX") >= 2  # UDP, then TCP
