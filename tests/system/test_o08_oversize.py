"""Case O08: a message over the limit gets one 552 behind its final dot, and nothing of it is queued."""

from mta import message
from rawclient import Raw

LIMIT = 1024 * 1024
LINE = b"x" * 76 + b"\r\n"
DECLARED = [("10485760", 552, "5.3.4"), ("99999999999999999999", 552, "5.3.4"), (str(LIMIT + 1), 552, "5.3.4"),
            ("-1", 501, "5.5.4"), ("0x10", 501, "5.5.4"), ("", 501, "5.5.4")]


def oversize(client, size):
    client.command("RCPT TO:<bert@dest.example>", 250)
    client.command("DATA", 354)
    client.send(message() + LINE * (size // len(LINE) + 1) + b".\r\n")
    client.expect(552, "5.3.4")


def test_undeclared_and_wrongly_declared(start_mta):
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}]}, listener={"max_message_size": "1MiB"})
    with Raw(mta) as client:
        text = client.command("EHLO client.sender.example", 250)
        assert f"SIZE {LIMIT}" in text
        client.command("MAIL FROM:<anna@sender.example>", 250)
        oversize(client, 10 * LIMIT)
        client.command("MAIL FROM:<anna@sender.example> SIZE=1", 250)
        oversize(client, 2 * LIMIT)
        assert mta.queued() == 0
        # The connection goes on, and exactly one reply came for each message.
        client.command("MAIL FROM:<anna@sender.example>", 250)
        client.command("RCPT TO:<bert@dest.example>", 250)
        client.command("DATA", 354)
        client.send(message() + b".\r\n")
        client.expect(250, "queued as")
        for value, code, status in DECLARED:
            client.command(f"MAIL FROM:<anna@sender.example> SIZE={value}", code, status)
        client.command(f"MAIL FROM:<anna@sender.example> SIZE={LIMIT}", 250)
        client.command("QUIT", 221)
    assert mta.queued() == 1


def test_memory_stays_flat(start_mta):
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}]}, build="release", listener={"max_message_size": "1MiB"})
    before = highest = mta.anonymous_kib()
    with Raw(mta) as client:
        client.envelope()
        client.send(message())
        for _ in range(200):
            client.send(LINE * (LIMIT // len(LINE)))
            highest = max(highest, mta.anonymous_kib())
        client.send(b".\r\n")
        client.expect(552, "5.3.4")
    assert highest - before < 16 * 1024
