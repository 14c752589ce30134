"""What the log says about messages taken and refused."""

from mta import data, message, queued_id

TO = "bert@dest.example"
FROM = "anna@sender.example"


def about(record):
    return tuple(record.get(key) for key in ("code", "status", "sender", "recipient"))


def test_log_of_submission(start_mta):
    mta = start_mta({"retry": {"intervals": ["1h"]}})
    with mta.smtp() as session:
        session.ehlo()
        assert session.docmd("MAIL FROM:<anna@>")[0] == 501
        session.mail(FROM)
        assert session.rcpt("bert@a..b")[0] == 501
        assert session.rcpt(TO)[0] == 250
        assert session.rcpt("carl@dest.example")[0] == 250
        assert data(session, b"Subject: bare\nline\r\n\r\n")[0] == 554
        session.mail(FROM)
        session.rcpt(TO)
        assert data(session, b"Received: by x; now\r\n" * 101 + message())[0] == 554
        session.mail(FROM)
        session.rcpt(TO)
        session.rcpt("carl@dest.example")
        identity = queued_id(*data(session, message()))
    mta.stop()
    refused = mta.events("reject")
    assert [about(record) for record in refused] == [
        (501, "5.1.7", "<anna@>", None),
        (501, "5.1.3", FROM, "<bert@a..b>"),
        (554, "5.6.0", FROM, None),
        (554, "5.4.6", FROM, None),
    ]
    assert ["id" in record for record in refused] == [False, False, True, True]
    assert len({record["id"] for record in refused[2:]} | {identity}) == 3
    accept, = mta.events("accept")
    assert (accept["id"], accept["sender"], accept["recipient"], accept["recipients"]) == (identity, FROM, TO, 2)
