"""Case O10: what a client sends in clear behind STARTTLS is never executed inside TLS."""

import time

import pytest

from rawclient import Raw

INJECTED = b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<victim@dest.example>\r\n"


@pytest.fixture
def mta(start_mta, certificate):
    return start_mta({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}},
                     listener={"tls": "optional"})


@pytest.mark.parametrize("segments", [
    [b"STARTTLS\r\n" + INJECTED],
    [b"STARTTLS\r\nMAIL FROM:<evil@send", b"er.example>\r\nRCPT TO:<victim@dest.example>\r\n"],
    [b"STARTTLS\r\n" + INJECTED + b"RCPT TO:<"],
    [b"STARTTLS\r\nMAIL FROM:<"],
], ids=["whole", "split", "with a rest", "a rest"])
def test_injected_commands(mta, segments):
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250, "STARTTLS")
        for segment in segments:
            client.send(segment)
            time.sleep(0.02)
        try:
            client.expect(220)
            client.handshake()
            client.command("NOOP", 250)
            text = client.command("EHLO client.sender.example", 250)
        except (EOFError, OSError):
            text = None  # dropped: allowed
        if text is not None:
            assert "STARTTLS" not in text
            client.command("RCPT TO:<x@dest.example>", 503)  # no transaction was begun
            client.command("QUIT", 221)
            assert client.buffer == b""
    assert mta.queued() == 0
    with Raw(mta) as client:  # and it serves on
        client.command("EHLO client.sender.example", 250)
        client.starttls()
        client.command("EHLO client.sender.example", 250)


def test_it_is_logged(mta):
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.send(b"STARTTLS\r\n" + INJECTED)
        client.expect(220)
        try:
            client.handshake()
            client.command("EHLO client.sender.example", 250)
        except (EOFError, OSError):
            pass
    mta.wait_event("reject")
    assert any("STARTTLS" in line for line in mta.log().splitlines())
