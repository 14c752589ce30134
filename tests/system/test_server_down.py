"""Nobody listens at the remote server: deferred, told by mtactl, delivered when it comes back, bounced when it does not."""

from dsn import Dsn
from mta import free_port
from peer import Peer


def test_delivered_when_it_comes_back(start_mta, closing):
    port = free_port()
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{port}"]}], "retry": {"intervals": ["1s"]}})
    identity = mta.submit("bert@dest.example", X_Test_Id="down")
    deferred = mta.wait_event("deferred", id=identity)
    assert deferred["recipient"] == "bert@dest.example" and deferred["status"].startswith("4.4.")

    shown = mta.wait_show(identity, lambda it: it["recipients"][0]["attempts"])
    assert shown["id"] == identity and shown["sender"] == "anna@sender.example"
    attempt = shown["recipients"][0]["attempts"][0]
    assert attempt["status"].startswith("4.4.") and "refused" in attempt["text"].lower()
    assert shown["recipients"][0]["address"] == "bert@dest.example"
    assert mta.ctl("list")[0]["id"] == identity

    peer = closing(Peer(port=port))
    peer.wait_for(lambda record: record.messages)
    mta.wait_event("delivered", id=identity)
    mta.wait_empty()
    assert peer.copies() == {"down": {"bert@dest.example": 1}}


def test_bounced_when_it_stays_down(start_mta, start_peer):
    """The sender's own domain works, so the report arrives there."""
    peer = start_peer()
    mta = start_mta({"routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]},
                                {"to": [f"127.0.0.1:{free_port()}"]}],
                     "retry": {"intervals": ["1s"], "expire": "3s"}})
    identity = mta.submit("bert@dest.example")
    peer.wait_for(lambda record: record.messages, timeout=20)
    mta.wait_empty()
    report = Dsn(peer.messages[0].content)
    fields = report.recipients["bert@dest.example"]
    assert fields["Status"].startswith(("4.4.", "5.4."))
    assert len(peer.messages) == 1
    assert len(mta.events("deferred", id=identity)) >= 2
    assert mta.events("expired", id=identity) or mta.events("bounced", id=identity)
