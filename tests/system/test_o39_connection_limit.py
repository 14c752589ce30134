"""Case O39: never more connections to one receiver than allowed, counted there, over several domains with the same MX,
while a third of the connections break; afterwards every slot is free again."""

import random

from peer import Peer

STAGES = ["greeting", "ehlo", "mail", "rcpt", "data", "dot"]


def most_at_once(connections, grace_s=0.2):
    """By the peer's clock; it sees an end a little later than the other side."""
    changes = []
    for connection in connections:
        end = (connection.closed or float("inf")) - grace_s
        if end > connection.opened:
            changes += [(connection.opened, 1), (end, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_connection_limit(start_mta, start_dns, closing):
    chance = random.Random(39)
    script = [{"stage": stage, "when": lambda session: chance.random() < 0.06, **end}
              for stage in STAGES for end in ({"close": True}, {"reset": True})]
    peer = closing(Peer(script=script))
    domains = [f"d{number}.example" for number in range(5)]
    records = {(domain, "MX"): ["10 mx.example."] for domain in domains}
    dns = start_dns({**records, ("mx.example", "A"): ["127.0.0.1"]})
    mta = start_mta({"dns": {"servers": [dns.text]},
                     "delivery": {"port": peer.port, "allow_private_addresses": True, "site": {"connections": 2}},
                     "retry": {"intervals": ["1s"]}})
    keys = set()
    for number in range(300):
        mta.submit(f"bert@{domains[number % 5]}", X_Test_Id=str(number))
        keys.add(str(number))
    mta.wait_empty(seconds=60)
    assert most_at_once(peer.connections) <= 2
    assert set(peer.copies()) == keys
    assert not mta.events("bounced")
    mta.stop()
    mta.start()
    mta.wait_event("delivered", id=mta.submit("bert@d1.example"), seconds=20)
