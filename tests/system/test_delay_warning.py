"""retry.warn: the sender is told once that a message is late (RFC 3464: Action: delayed), and never about a report."""

import datetime
import email.utils
import time

from dsn import Dsn

LATER = [{"stage": "rcpt", "address": "bert@dest.example", "reply": "451 4.2.1 mailbox busy"},
         {"stage": "rcpt", "address": "carl@dest.example", "reply": "452 4.2.2 mailbox full"}]


def reports(peer):
    return [message for message in peer.accepted("anna@sender.example") if message.header("Auto-Submitted")]


def test_warning(start_mta, start_peer, to_peer):
    """One notice of both recipients that wait, after two seconds; none again, also not after a restart; then the end."""
    peer = start_peer(script=LATER)
    mta = start_mta(to_peer(peer, retry={"intervals": ["1s"], "expire": "9s", "warn": "2s"}))
    begun = time.time()
    identity = mta.submit(["bert@dest.example", "dora@dest.example", "carl@dest.example"], subject="Lunch")
    peer.wait_for(lambda record: reports(record), timeout=20)
    assert time.time() - begun > 1.9
    notice = Dsn(reports(peer)[0].content, action="delayed")
    assert set(notice.recipients) == {"bert@dest.example", "carl@dest.example"}
    assert notice.recipients["bert@dest.example"]["Status"] == "4.2.1"
    assert "452 4.2.2" in notice.recipients["carl@dest.example"]["Diagnostic-Code"]
    assert identity in notice.text and "Lunch" in notice.original and "tried again until" in " ".join(notice.text.split())
    until = email.utils.parsedate_to_datetime(notice.recipients["bert@dest.example"]["Will-Retry-Until"])
    accepted = datetime.datetime.fromtimestamp(begun, datetime.timezone.utc)
    assert 7 <= (until - accepted).total_seconds() <= 11
    mta.stop()
    assert len(reports(peer)) == 1
    mta.start()
    mta.wait_event("expired", id=identity, count=2, seconds=20)
    mta.wait_empty()
    assert len(reports(peer)) == 2 and set(Dsn(reports(peer)[1].content).recipients) == set(notice.recipients)


def test_no_warning(start_mta, start_peer, to_peer):
    """Not of a report of ours that is late, and not by default."""
    peer = start_peer(script=LATER)
    mta = start_mta(to_peer(peer, retry={"intervals": ["1s"], "expire": "30s", "warn": "1s"}))
    identity = mta.submit("bert@dest.example", sender="")
    mta.wait_event("deferred", id=identity, count=4)
    mta.write_config({"retry": {"warn": None}})
    mta.ctl("reload")
    other = mta.submit("bert@dest.example")
    mta.wait_event("deferred", id=other, count=3)
    assert mta.queued() == 2 and not peer.accepted()


def test_full_queue_warns_later(start_mta, start_peer, to_peer):
    """A notice for which there is no room is told with a later deferral."""
    peer = start_peer(script=LATER)
    mta = start_mta(to_peer(peer, retry={"intervals": ["1s"], "expire": "1h", "warn": "3s"},
                            queue={"max_size": "8MiB"}), build="release")
    waits = mta.submit("bert@dest.example")
    mta.wait_event("deferred", id=waits)
    fill = []
    for lines in (1400, 100, 1):  # to the last place for a small one
        content = b"From: <a@b.example>\r\n\r\n" + (b"y" * 70 + b"\r\n") * lines
        while True:
            try:
                fill.append(mta.submit("carl@dest.example", content))
            except AssertionError:
                break
            assert len(fill) < 3000
    time.sleep(4)
    assert not reports(peer)
    mta.ctl("delete", "--recipient", "carl@dest.example")
    peer.wait_for(lambda record: reports(record), timeout=30)
    Dsn(reports(peer)[0].content, action="delayed")
