"""Notifications as Python's email package reads them; tests/tools/dsn_build.c makes them."""

import email
import email.policy
import email.utils
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MTA_BIN") or ROOT / "build" / "address" / "bin")
BUILDER = BIN / "dsn_build"
SECTION = b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: Lunch\r\n" \
    b"Message-ID: <1@example.com>\r\n"
BOB = ("bob@example.net", "5.1.1", "550", "No such user", "mx.example.net", "0")


def build(*recipients, to="alice@example.com", section=SECTION):
    if not BUILDER.exists():
        pytest.fail(f"{BUILDER} is missing: build the target dsn_build, or set MTA_BIN")
    arguments = [part for recipient in recipients for part in recipient]
    done = subprocess.run([BUILDER, "mail.example.com", to, *arguments], input=section,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(raw, recipients):
    """Checks what holds for every notification; gives its words, groups and attached header."""
    assert b"\0" not in raw and raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@mail.example.com"
    assert message["Message-ID"] and message["Date"].datetime and "Received" not in message
    words, status, header = message.get_payload()
    for part in (message, words, status, header):
        assert part.defects == []
    assert words.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert header.get_content_type() == "text/rfc822-headers"
    groups = status.get_payload()
    assert len(groups) == 1 + recipients
    assert groups[0]["Reporting-MTA"] == "dns; mail.example.com"
    for group in groups[1:]:
        assert group["Action"] == "failed"
        assert group["Final-Recipient"].startswith("rfc822; ")
    return words.get_content(), groups, header.get_payload(decode=True)


def test_one_recipient():
    raw = build(BOB)
    words, groups, header = read(raw, 1)
    assert dict(groups[1].items()) == {
        "Final-Recipient": "rfc822; bob@example.net", "Action": "failed", "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net", "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
        "Last-Attempt-Date": groups[1]["Last-Attempt-Date"]}
    arrival = email.utils.parsedate_to_datetime(groups[0]["Arrival-Date"])
    attempt = email.utils.parsedate_to_datetime(groups[1]["Last-Attempt-Date"])
    assert (attempt - arrival).total_seconds() == 3600
    assert header == SECTION
    assert "bob@example.net" in words and "550 5.1.1 No such user" in words
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["To"].addresses[0].addr_spec == "alice@example.com"
    assert message["References"] == message["In-Reply-To"] == "<1@example.com>"
    assert message["Content-Transfer-Encoding"] == "7bit"


def test_many_recipients():
    recipients = [(f"user{i}@example.net", "4.4.1", "0", "timed out", "", "1") for i in range(300)]
    words, groups, _ = read(build(*recipients), 300)
    assert [group["Final-Recipient"] for group in groups[1:]] == \
        ["rfc822; " + recipient[0] for recipient in recipients]
    assert "and 200 more" in words
    assert all("Remote-MTA" not in group for group in groups)


@pytest.mark.parametrize("text", [
    "", "x" * 5000, "a " * 2000, "two\r\nlines\r\n\r\nAction: delivered", "\x1b[2J %s%n \x7f",
    "Grüße " * 100, "\r\n--=_0ABCDEFGHJKMP_0--\r\n",
    "Final-Recipient: rfc822; x@y", "tab\there"],
    ids=["none", "one word", "many words", "lines", "escapes", "8-bit", "boundary", "field", "tab"])
def test_any_reply(text):
    """Cases O20: whatever the other side answers, the report stays a report."""
    words, groups, _ = read(build(BOB[:3] + (text,) + BOB[4:]), 1)
    code = " ".join(groups[1]["Diagnostic-Code"].split())
    assert code.startswith("smtp; 550 5.1.1")
    assert groups[1]["Status"] == "5.1.1" and len(groups[1].get_all("Action")) == 1
    assert groups[1]["Final-Recipient"] == "rfc822; bob@example.net"
    assert words.isascii() and "\x1b" not in words and "\x7f" not in words
    if text.isascii() and text.isprintable() and len(text) < 1000:
        assert code == ("smtp; 550 5.1.1 " + text).rstrip()


@pytest.mark.parametrize("address", [
    '"a b"@example.net', "x" * 64 + "@" + "y" * 240 + ".example", "jörg@example.net",
    "a\r\nBcc: x@y\r\n\r\nbody", "a@b\n\n--=_0ABCDEFGHJKMP_0\n"])
def test_any_address(address):
    raw = build((address,) + BOB[1:], to=address)
    _, groups, _ = read(raw, 1)
    shown = "".join(c if c.isascii() and c.isprintable() else "?" * len(c.encode()) for c in address)
    assert groups[1]["Final-Recipient"].split(None, 1)[1] == shown
    message = email.message_from_bytes(raw)
    assert "Bcc" not in message and len(message.get_all("To")) == 1


@pytest.mark.parametrize("section, attached", [
    (b"", b""),
    ("Subject: Grüße\r\n".encode(), "Subject: Grüße\r\n".encode()),
    (b"no field\r\nSubject: x\r\n", b"no field\r\nSubject: x\r\n"),
    (b"--=_0ABCDEFGHJKMP_0\r\n--=_0ABCDEFGHJKMP_1--\r\n", None),
    (b"Subject: a\r\n\r\nbody", b"Subject: a\r\n"),
    (b"Subject: " + b"x" * 5000 + b"\r\n", None),
    (b"X: 1234567890123456789012345\r\n" * 10000, b"X: 1234567890123456789012345\r\n" * 2184),
], ids=["none", "8-bit", "malformed", "boundaries", "blank line", "long line", "large"])
def test_any_original(section, attached):
    raw = build(BOB, section=section)
    _, _, header = read(raw, 1)
    if attached is not None:
        assert header == attached
    message = email.message_from_bytes(raw)
    expected = "7bit" if section.isascii() else "8bit"
    assert message["Content-Transfer-Encoding"] == expected
