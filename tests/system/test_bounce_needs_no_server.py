"""`mtactl bounce`: the sender is told at once, whatever the destination does: it is down, silent, its DNS is dead, or all
its connections are taken. And units that are held or deleted make room in memory."""

import smtplib
import time

import pytest

from dsn import Dsn
from mta import free_port


@pytest.mark.parametrize("kind", ["refused", "silent", "busy", "no DNS"])
def test_bounce(start_mta, start_peer, kind):
    home = start_peer()
    stuck = start_peer(script=[{"stage": "greeting" if kind == "silent" else "rcpt", "silence": True}])
    port = free_port() if kind == "refused" else stuck.port
    routes = [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{home.port}"]}]
    if kind != "no DNS":
        routes.append({"to": [f"127.0.0.1:{port}"]})
    mta = start_mta({"routes": routes, "delivery": {"site": {"connections": 1}}, "retry": {"intervals": ["1h"]}},
                    build="release")
    identities = [mta.submit("bert@dest.example") for _ in range(12)]
    if kind == "refused":
        for identity in identities:
            mta.wait_event("deferred", id=identity)
    elif kind != "no DNS":
        stuck.wait_for(lambda record: record.connections)
    waiting = identities[1:]  # the first may be under way: it ends as it began
    begun = time.monotonic()
    for identity in waiting:
        mta.ctl("bounce", identity)
    home.wait_for(lambda record: len(record.accepted("anna@sender.example")) == 11, timeout=10)
    assert time.monotonic() - begun < 5
    for message in home.accepted("anna@sender.example"):
        report = Dsn(message.content)
        assert "administrator" in report.recipients["bert@dest.example"]["Diagnostic-Code"]
    for identity in waiting:
        assert len(mta.events("bounced", id=identity)) == 1
    assert not mta.events("bounced", id=identities[0])


def test_bounce_over_a_restart(start_mta, start_peer):
    """Asked for while the daemon could not do it any more: done when it starts."""
    home, stuck = start_peer(), start_peer(script=[{"stage": "rcpt", "silence": True}])
    mta = start_mta({"routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{home.port}"]},
                                {"to": [f"127.0.0.1:{stuck.port}"]}], "retry": {"intervals": ["1h"]},
                     "delivery": {"site": {"connections": 1}}}, build="release")
    for _ in range(20):
        mta.submit("bert@dest.example")
    mta.ctl_run("bounce", "--all")
    mta.kill()
    mta.start()
    home.wait_for(lambda record: len(record.accepted("anna@sender.example")) >= 19, timeout=10)


def test_bounce_into_a_full_queue(start_mta, start_peer):
    """The report does not fit: it waits, however often it is tried, and is told once, when it is made."""
    home = start_peer()
    mta = start_mta({"routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{home.port}"]},
                                {"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]},
                     "queue": {"max_size": "16MiB"}}, build="release")
    identity = mta.submit("bert@dest.example")
    for lines in 6000, 300, 1, 1, 1, 1:  # what is deferred gives a little room back
        with pytest.raises(smtplib.SMTPException), mta.smtp() as session:
            for _ in range(2000):
                session.sendmail("anna@sender.example", ["carl@dest.example"],
                                 "Subject: x\r\n\r\n" + ("x" * 76 + "\r\n") * lines)
        time.sleep(0.2)
    mta.wait_event("deferred", id=identity)
    mta.ctl("bounce", identity)
    for _ in range(3):
        time.sleep(0.3)
        mta.ctl("retry", identity)
    time.sleep(0.3)
    assert mta.ctl("list", "--recipient", "bert@dest.example")
    assert not mta.events("bounced") and mta.ctl("status")["bounced"] == 0
    mta.ctl("delete", "--recipient", "carl@dest.example")
    mta.ctl("retry", identity)
    home.wait_for(lambda record: record.accepted("anna@sender.example"), timeout=10)
    mta.wait_event("bounced", id=identity)
    assert len(mta.events("bounced")) == 1 and mta.ctl("status")["bounced"] == 1


@pytest.mark.parametrize("verb", ["hold", "delete"])
def test_room(start_mta, start_peer, verb):
    """What waits in memory for a site that takes nothing leaves it, held or deleted, and the next take its place."""
    stuck = start_peer(script=[{"stage": "rcpt", "silence": True}])
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{stuck.port}"]}],
                     "delivery": {"units_in_memory": 1000, "site": {"connections": 1}}}, build="release")
    with mta.smtp() as session:
        session.ehlo()
        for _ in range(200):
            session.sendmail("anna@sender.example", ["bert@dest.example"], "Subject: x\r\n\r\nx\r\n")
    before = mta.ctl("status")["in_memory"]
    assert 50 < before < 200  # the rest waits in the store
    mta.ctl(verb, "--all")
    end = time.monotonic() + 5
    while mta.ctl("status")["in_memory"] > 2:
        assert time.monotonic() < end, mta.ctl("status")
        time.sleep(0.05)
    mta.submit("carl@dest.example")
    assert mta.ctl("status")["in_memory"] >= 1
    if verb == "hold":
        mta.ctl("release", "--all")
        end = time.monotonic() + 5
        while mta.ctl("status")["in_memory"] < 50:
            assert time.monotonic() < end, mta.ctl("status")
            time.sleep(0.05)
