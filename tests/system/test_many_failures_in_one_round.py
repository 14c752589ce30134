"""450 recipients refused at once, one greylisted: the notifications follow each other at once and name everybody once, and
the one that waits keeps its schedule."""

from dsn import Dsn


def test_many_failures_in_one_round(start_mta, start_peer):
    back = start_peer()
    peer = start_peer(script=[{"stage": "rcpt", "address": "later@dest.example", "reply": "451 4.7.1 later"},
                              {"stage": "rcpt", "reply": "550 5.1.1 no such user"}])
    mta = start_mta({"routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{back.port}"]},
                                {"to": [f"127.0.0.1:{peer.port}"]}],
                     "delivery": {"site": {"recipients_per_message": 500}}, "retry": {"intervals": ["1h"]}})
    wrong = [f"user{number}@dest.example" for number in range(450)]
    identity = mta.submit(wrong + ["later@dest.example"])
    back.wait_for(lambda record: len(record.messages) >= 3, timeout=30)
    told = []
    for taken in back.messages:
        told += list(Dsn(taken.content).recipients)
    assert sorted(told) == sorted(wrong)
    assert len(mta.events("bounced", id=identity)) == 450
    assert len(mta.events("deferred", id=identity)) == 1
    assert len(peer.connections) == 1, "who waits was tried again because of the others"
    shown = mta.ctl("show", identity)
    assert [r["state"] for r in shown["recipients"] if r["state"] != "bounced"] == ["waiting"]
