"""What cron and its like send to names of this machine reaches the people whom the configuration names."""

import email
import email.policy

from mta import data, queued_id

SYSTEM = {
    "default_domain": "sender.example",
    "postmaster": "post@person.example",
    "aliases": {"root": ["admin@person.example", "ops"], "ops": ["anna@person.example", "admin@person.example"],
                "www-data": "root", "left": "right@localhost", "right": "left@localhost"},
}
CRON = (b"From: root (Cron Daemon)\r\nTo: root\r\nSubject: Cron <root@mta> run-parts /etc/cron.daily\r\n"
        b"Content-Type: text/plain; charset=UTF-8\r\nX-Cron-Env: <SHELL=/bin/sh>\r\n\r\nThe disk is full.\r\n")


def hand_in(mta, recipients, content=CRON, sender="root"):
    with mta.smtp() as client:
        client.ehlo("mta")
        assert client.docmd(f"MAIL FROM:<{sender}>")[0] == 250
        for recipient in recipients:
            code, text = client.docmd(f"RCPT TO:<{recipient}>")
            assert code == 250, text
        return queued_id(*data(client, content))


def test_cron_mail_to_root(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer, **SYSTEM))
    identity = hand_in(mta, ["root"])
    got = peer.wait_for(lambda record: record.messages) and peer.messages[0]
    assert got.sender == "root@sender.example"
    assert sorted(got.recipients) == ["admin@person.example", "anna@person.example"]
    parsed = email.message_from_bytes(got.content, policy=email.policy.default)
    assert parsed["From"].addresses[0].addr_spec == parsed["To"].addresses[0].addr_spec == "root@sender.example"
    assert b"\r\n\r\nThe disk is full.\r\n" in got.content
    mta.wait_empty()
    assert len(peer.messages) == 1  # one message, whatever the alias names
    assert mta.events("accept", id=identity)[0]["recipients"] == 2


def test_names_of_this_machine(start_mta, start_peer, to_peer):
    peer = start_peer()
    mta = start_mta(to_peer(peer, **SYSTEM))
    people = ["admin@person.example", "anna@person.example"]
    cases = [
        (["ops@localhost"], people),
        (["WWW-Data@MTA.sender.example", "root", "admin@person.example"], people),
        (["Postmaster"], ["post@person.example"]),
        (["postmaster@localhost"], ["post@person.example"]),
        (["bert"], ["bert@sender.example"]),
        (["root@sender.example"], ["root@sender.example"]),  # a mailbox of the domain, not of this machine
        (["left"], ["left@sender.example"]),                 # a circle by way of localhost
    ]
    for count, (recipients, wanted) in enumerate(cases, 1):
        hand_in(mta, recipients)
        peer.wait_for(lambda record, count=count: len(record.messages) == count)
        assert sorted(peer.messages[-1].recipients) == wanted, recipients
    mta.wait_empty()
    assert len(peer.messages) == len(cases)


def test_relays_complete_nothing(start_mta, start_peer, to_peer):
    """Another MTA's names without a domain are its fault, except <Postmaster> (RFC 5321 section 4.5.1)."""
    peer = start_peer()
    mta = start_mta(to_peer(peer, **SYSTEM), listener={"role": "relay"})
    with mta.smtp() as client:
        client.ehlo("other.example")
        assert client.docmd("MAIL FROM:<root>")[0] == 553
        assert client.docmd("MAIL FROM:<root@other.example>")[0] == 250
        code, text = client.docmd("RCPT TO:<root>")
        assert code == 553 and text.startswith(b"5.1.3 ")
        assert client.docmd("RCPT TO:<PostMaster>")[0] == 250
        queued_id(*data(client, CRON))
    peer.wait_for(lambda record: record.messages)
    assert peer.messages[0].recipients == ["post@person.example"]


def test_names_that_clients_say(start_mta):
    """EHLO with a name that is none is accepted on submission: many applications know no better."""
    mta = start_mta()
    for name in ("localhost", "mta", "[127.0.0.1]", "[IPv6:::1]", "laptop_7"):
        with mta.smtp() as client:
            assert client.docmd("EHLO " + name)[0] == 250
            assert client.mail("anna@sender.example")[0] == 250
