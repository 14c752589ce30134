"""A unit in delivery for long does not hide the retries of its domain that become due meanwhile."""

import time


def test_retry_behind_a_slow_one(start_mta, start_peer, to_peer):
    peer = start_peer(script=[
        {"stage": "rcpt", "address": "slow@dest.example", "times": 1, "reply": "451 4.2.1 not yet"},
        {"stage": "rcpt", "address": "quick@dest.example", "times": 1, "reply": "451 4.2.1 not yet"},
        {"stage": "rcpt", "address": "slow@dest.example", "delay": 15}])
    mta = start_mta(to_peer(peer, retry={"intervals": ["2s"]}))
    slow = mta.submit("slow@dest.example")
    mta.wait_event("deferred", id=slow)
    time.sleep(1)
    quick = mta.submit("quick@dest.example")
    mta.wait_event("deferred", id=quick)
    mta.wait_event("delivered", id=quick, seconds=8)
    assert not mta.events("delivered", id=slow)
    mta.wait_event("delivered", id=slow, seconds=30)
    mta.wait_empty()
