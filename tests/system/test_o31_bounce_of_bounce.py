"""Case O31: notifications about notifications do not exist; the queue ends up empty."""

from dsn import Dsn

NO = [{"stage": "rcpt", "reply": "550 5.1.1 nobody here"}]


def test_report_is_refused_too(start_mta, start_peer, to_peer):
    peer = start_peer(script=NO)
    mta = start_mta(to_peer(peer))
    mta.submit("bert@dest.example")
    mta.wait_event("bounced", recipient="bert@dest.example")
    mta.wait_event("bounced", recipient="anna@sender.example")
    mta.wait_empty()
    assert len(mta.events("bounced")) == 2
    reports = [line for connection in peer.connections for line in connection.commands()
               if line.startswith(b"MAIL FROM:<>")]
    assert len(reports) == 1


def test_null_sender_is_accepted_and_never_answered(start_mta, start_peer, to_peer):
    peer = start_peer(script=NO)
    mta = start_mta(to_peer(peer))
    identity = mta.submit("bert@dest.example", sender="")
    mta.wait_event("bounced", id=identity)
    mta.wait_empty()
    assert len(mta.events("bounced")) == 1 and len(peer.connections) == 1


def test_sender_is_the_failing_recipient(start_mta, start_peer, to_peer):
    peer = start_peer(script=NO)
    mta = start_mta(to_peer(peer))
    for _ in range(200):
        mta.submit("self@dest.example", sender="self@dest.example")
    mta.wait_event("bounced", count=400, seconds=60)
    mta.wait_empty()
    assert len(mta.events("bounced")) == 400
    assert mta.ctl("list") == []


def test_form_of_the_report(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{**NO[0], "address": "bert@dest.example"}])
    mta = start_mta(to_peer(peer))
    mta.submit("bert@dest.example")
    peer.wait_for(lambda record: record.messages)
    assert peer.messages[0].sender == "" and peer.messages[0].recipients == ["anna@sender.example"]
    Dsn(peer.messages[0].content)
