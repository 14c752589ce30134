"""The server refuses one of three recipients with 550: two are delivered, one comes back in one DSN."""

from dsn import Dsn


def test_one_of_three_refused(start_mta, start_peer, to_peer):
    peer = start_peer(script=[{"stage": "rcpt", "address": "no@dest.example",
                               "reply": "550 5.1.1 <no@dest.example> nobody of that name"}])
    mta = start_mta(to_peer(peer))
    recipients = ["yes1@dest.example", "no@dest.example", "yes2@dest.example"]
    identity = mta.submit(recipients, subject="to three", X_Test_Id="three")

    peer.wait_for(lambda record: len(record.messages) >= 2)
    mta.wait_empty()
    copies = peer.copies()
    assert copies["three"] == {"yes1@dest.example": 1, "yes2@dest.example": 1}

    reports = peer.accepted("anna@sender.example")
    assert len(reports) == 1 and len(peer.messages) == 2
    assert reports[0].sender == ""
    report = Dsn(reports[0].content)
    assert report.message["To"] == "anna@sender.example"
    assert list(report.recipients) == ["no@dest.example"]
    fields = report.recipients["no@dest.example"]
    assert fields["Status"] == "5.1.1"
    assert fields["Diagnostic-Code"].startswith("smtp;")
    assert "550" in fields["Diagnostic-Code"] and "nobody of that name" in fields["Diagnostic-Code"]
    assert "no@dest.example" in report.text and "nobody of that name" in report.text
    assert "Subject: to three" in report.original

    bounced = mta.wait_event("bounced", id=identity)
    assert bounced["recipient"] == "no@dest.example"
    assert (bounced["code"], bounced["status"]) == (550, "5.1.1")
    delivered = mta.events("delivered", id=identity)
    assert sorted(event["recipient"] for event in delivered) == ["yes1@dest.example", "yes2@dest.example"]
