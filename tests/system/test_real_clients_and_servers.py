"""Clients of four kinds hand in mail; it goes by real DNS over STARTTLS into a Postfix mailbox, and two DKIM
verifiers of other vendors accept what lies there."""

import re
import time

import pytest

from mta import message
from vendors import dkimpy_verdict, opendkim_verdict

SMTPLIB = """
import smtplib, ssl, sys
with smtplib.SMTP("192.0.2.1", 587, timeout=20) as client:
    client.starttls(context=ssl._create_unverified_context())
    client.sendmail("anna@sender.example", ["bert@dest.example"], sys.stdin.buffer.read())
"""


def smtplib_client(host, content, folder):
    host.run("/usr/bin/python3", "-c", SMTPLIB, input=content)


def swaks_client(host, content, folder):
    (folder / "mail").write_bytes(content)
    host.run("swaks", "--server", "192.0.2.1", "--port", "587", "--tls", "--ehlo", "client.sender.example", "--from",
             "anna@sender.example", "--to", "bert@dest.example", "--data", "@" + str(folder / "mail"),
             "--suppress-data", capture_output=True)


def msmtp_client(host, content, folder):
    host.run("msmtp", "--host=192.0.2.1", "--port=587", "--tls=on", "--tls-certcheck=off", "--auth=off",
             "--domain=client.sender.example", "--from=anna@sender.example", "bert@dest.example",
             input=content.replace(b"\r\n", b"\n"))


def curl_client(host, content, folder):
    (folder / "mail").write_bytes(content)
    host.run("curl", "--silent", "--show-error", "--fail", "--ssl-reqd", "--insecure",
             "smtp://192.0.2.1:587/client.sender.example", "--mail-from", "anna@sender.example", "--mail-rcpt",
             "bert@dest.example", "--upload-file", str(folder / "mail"))


CLIENTS = {"smtplib": smtplib_client, "swaks": swaks_client, "msmtp": msmtp_client, "curl": curl_client}


def find(postfix, user, key, seconds=20):
    """The one message with that X-Test-Id in the mailbox."""
    end = time.monotonic() + seconds
    wanted = b"X-Test-Id: " + key.encode() + b"\r\n"
    while True:
        found = [content for content in postfix.mailbox(user) if wanted in content]
        if found:
            assert len(found) == 1
            return found[0]
        assert time.monotonic() < end, postfix.log()
        time.sleep(0.05)


def from_mta(content):
    """What mtad sent: without the fields that Postfix put above it."""
    return content[content.index(b"DKIM-Signature:"):]


@pytest.mark.parametrize("client", CLIENTS)
def test_client_to_postfix(world, start_mta_in, tmp_path, client):
    mta = start_mta_in(world)
    key = f"{client}-{time.time_ns()}"
    content = message(X_Test_Id=key, subject="  folded\r\n\tsubject ", body="Hello,\r\n\r\n..\r\n.\r\nbye  \r\n\r\n")
    CLIENTS[client](world.mta, content, tmp_path)
    stored = find(world.dest, "bert", key)
    mine = from_mta(stored)
    assert mine.count(b"DKIM-Signature:") == 1
    assert dkimpy_verdict(mine, world.keys)
    assert opendkim_verdict(mine, world.keys, tmp_path / "opendkim")
    assert not dkimpy_verdict(mine.replace(b"bye", b"bya"), world.keys)
    assert not opendkim_verdict(mine.replace(b"bye", b"bya"), world.keys, tmp_path / "opendkim")

    assert mine.split(b"\r\n\r\n", 1)[1].rstrip() == content.split(b"\r\n\r\n", 1)[1].rstrip()
    assert re.search(rb"Received: by mta\.sender\.example", mine)
    assert b"192.0.2.1" not in mine  # where the client sits is nobody's business
    assert b"ESMTPS" in mine  # from the client to mtad
    assert b"(using TLSv1.3" in stored  # from mtad to Postfix, in Postfix's own words
    delivered = mta.wait_event("delivered", recipient="bert@dest.example")
    assert delivered["tls"].startswith("TLS1.3") and delivered["host"] == "mx1.dest.example"
    assert delivered["address"] in ("198.51.100.25", "2001:db8:1::25", "[2001:db8:1::25]:25", "198.51.100.25:25")
    mta.wait_empty()


def test_unknown_user_comes_back(world, start_mta_in):
    """Postfix refuses one; the report reaches the sender's mailbox at another Postfix."""
    from dsn import Dsn
    mta = start_mta_in(world)
    before = len(world.sender.mailbox("anna"))
    identity = mta.submit(["bert@dest.example", "nobody@dest.example"])
    box = world.sender.wait_mail("anna", before + 1)
    content = box[-1]
    assert content.startswith(b"Return-Path: <>\r\n")
    report = Dsn(content)
    assert list(report.recipients) == ["nobody@dest.example"]
    fields = report.recipients["nobody@dest.example"]
    assert fields["Status"] == "5.1.1" and "User unknown" in fields["Diagnostic-Code"]
    assert fields["Remote-MTA"] == "dns; mx1.dest.example"
    assert report.fields["Reporting-MTA"] == "dns; mta.sender.example"
    assert len(mta.events("delivered", id=identity)) == 1
    mta.wait_empty()


@pytest.mark.parametrize("domain, address", [("six.example", "2001:db8:1::25"),
                                             ("blackhole.example", "198.51.100.25"),
                                             ("address.example", "198.51.100.25")])
def test_addresses(world, start_mta_in, domain, address):
    """IPv6 only; IPv6 that leads nowhere beside IPv4 that works (case O28); no MX."""
    mta = start_mta_in(world, timeouts={"connect": "3s"})
    begun = time.monotonic()
    identity = mta.submit(f"bert@{domain}", X_Test_Id=f"{domain}-{time.time_ns()}")
    delivered = mta.wait_event("delivered", id=identity)
    assert address in delivered["address"]
    assert time.monotonic() - begun < 10
    assert not mta.events("deferred")


def test_null_mx_and_unknown_domain(world, start_mta_in):
    mta = start_mta_in(world)
    assert mta.wait_event("bounced", id=mta.submit("a@null.example"))["status"] == "5.1.10"
    assert mta.wait_event("bounced", id=mta.submit("a@nowhere.dest.example"))["status"] == "5.1.2"


def test_mx_is_our_own_address(world, start_mta_in):
    """Case O30: a foreign domain whose MX is this machine's public address."""
    mta = start_mta_in(world)
    identity = mta.submit("a@ourselves.example")
    assert mta.wait_event("bounced", id=identity)["status"] == "5.4.6"


def test_large_message(world, start_mta_in, tmp_path):
    mta = start_mta_in(world)
    key = f"large-{time.time_ns()}"
    content = message(X_Test_Id=key, body="0123456789 " * 6 + "\r\n") + b"abcdefghij\r\n" * 700000
    mta.submit("bert@dest.example", content)
    mine = from_mta(find(world.dest, "bert", key, 60))
    assert mine.endswith(content.split(b"\r\n\r\n", 1)[1])
    assert dkimpy_verdict(mine, world.keys)
