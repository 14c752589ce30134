"""Case O10: what a client sends in clear behind STARTTLS is never executed inside TLS."""

import time

import pytest

from rawclient import Raw

INJECTED = b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<victim@dest.example>\r\n"


@pytest.fixture(scope="module")
def mta(start_shared, certificate):
    return start_shared({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}},
                        listener={"tls": "optional"})


def serves_on(mta):
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.starttls()
        client.command("EHLO client.sender.example", 250)


@pytest.mark.parametrize("before, injected", [
    (b"", INJECTED),
    (b"", INJECTED + b"RCPT TO:<"),
    (b"", b"MAIL FROM:<"),
    (b"", b"EHLO evil\r\n" + INJECTED + b"DATA\r\nSubject: x\r\n\r\n.\r\n"),
    (INJECTED, b"DATA\r\nSubject: x\r\n\r\n.\r\n"),  # the transaction begun in clear is gone too
], ids=["whole", "with a rest", "a rest", "a message", "what was begun"])
def test_injected_commands(mta, before, injected):
    """In the segment of STARTTLS: dropped. No word about it, in clear or inside TLS."""
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250, "STARTTLS")
        client.send(before + b"STARTTLS\r\n" + injected)
        for _ in before.splitlines():
            client.expect(250)
        client.expect(220)
        assert client.buffer == b""
        client.handshake()
        client.command("NOOP", 250)
        assert "STARTTLS" not in client.command("EHLO client.sender.example", 250)
        client.command("RCPT TO:<x@dest.example>", 503)  # no transaction was begun
        client.command("QUIT", 221)
        assert client.buffer == b"" and client.at_end()
    assert mta.queued() == 0 and not mta.events("accept")
    serves_on(mta)


def test_injected_in_a_segment_of_its_own(mta):
    """It may meet the handshake, and then the connection ends; it is never run."""
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        for segment in (b"STARTTLS\r\nMAIL FROM:<evil@send", b"er.example>\r\nRCPT TO:<victim@dest.example>\r\n"):
            client.send(segment)
            time.sleep(0.02)
        client.expect(220)
        try:
            client.handshake()
            client.command("NOOP", 250)
            client.command("EHLO client.sender.example", 250)
            client.command("RCPT TO:<x@dest.example>", 503)
        except (EOFError, OSError):
            assert b"25" not in client.buffer
    assert mta.queued() == 0 and not mta.events("accept")
    serves_on(mta)


def test_it_is_logged(mta):
    before = len(mta.events("reject"))
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.send(b"STARTTLS\r\n" + INJECTED)
        client.expect(220)
        client.handshake()
        client.command("EHLO client.sender.example", 250)
    told = mta.wait_event("reject", count=before + 1)
    assert "dropped" in told["text"] and told["bytes"] == len(INJECTED)
