"""What a client says about itself and its addresses cannot become a reply, a field, a command or a line of the log."""

import re
import socket
import time

import pytest

from mta import message
from rawclient import Raw

MARK = "Xq7Injected"
EVIL = [  # what may stand in an argument; the rest of a line that has it is refused or defused
    f"a\rReceived: {MARK}", f"a\n250 {MARK}", f"a\x00{MARK}", f"a\x1b[2J{MARK}", f"a\x0b{MARK}", f"a\x85{MARK}",
    f"a\u2028{MARK}", f"a\u202e{MARK}", f"a\x7f{MARK}", f"a\xff{MARK}", f"a) by evil.example (x; {MARK}", f'a"}},{{"event":"accept","x":"{MARK}',
    f"a\t{MARK}", f"%s%n{MARK}", f"a event=accept id={MARK}", f"<a>{MARK}", f"\\{MARK}", f"(({MARK}", f"=?utf-8?q?=0D=0A{MARK}?=",
]


def octets(line):
    """Each character its octet; what is beyond them in UTF-8."""
    return line.encode("latin-1") if max(line) <= "\xff" else line.encode()


TEXT_VALUE = re.compile(rb' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "]*)')
TEXT_LINE = re.compile(rb"\S+ [a-z]+ [a-z]+(?:" + TEXT_VALUE.pattern + rb")*")


def said(mta, lines):
    """All that a session answers to these lines."""
    with Raw(mta) as client:
        client.send(b"".join(octets(line) + b"\r\n" for line in lines) + b"QUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.sock.recv(65536), b""))


@pytest.mark.parametrize("log", ["json", "text"])
def test_replies_and_log(start_mta, log):
    mta = start_mta({"log": {"format": log}}, wait=False)
    if log == "json":
        mta.start()
    else:  # the harness reads only JSON
        mta.spawn()
        end = time.monotonic() + 20
        while not mta._listens():
            assert time.monotonic() < end, mta.log()
            time.sleep(0.02)
    for evil in EVIL:
        replies = said(mta, [
            f"EHLO {evil}", f"HELO {evil}", evil, f"NOOP {evil}", f"VRFY {evil}", f"HELP {evil}", f"RSET {evil}", f"AUTH {evil}",
            f"AUTH PLAIN {evil}", f"MAIL FROM:<{evil}@b.example>", f"MAIL FROM:<a@b.example> {evil}",
            f"MAIL FROM:<a@b.example> AUTH={evil}", f"MAIL FROM:<a@b.example> SIZE={evil}", f"MAIL FROM:{evil}",
            "RSET", "MAIL FROM:<a@b.example>", f"RCPT TO:<{evil}@b.example>", f"RCPT TO:<a@{evil}>", f"RCPT TO:<a@b> {evil}",
            f"BDAT {evil}"])  # may be the last that is read
        assert MARK.encode() not in replies, replies
        assert replies.endswith(b"\r\n") and re.fullmatch(rb"(\d\d\d[ -][ -~]*\r\n)+", replies), replies
    mta.signal(15)
    assert mta.wait_exit(40) == 0
    text = mta.log_path.read_bytes()
    assert MARK.encode() in text  # it is told what was refused
    for line in text.splitlines():
        assert re.fullmatch(rb"[ -~]*", line), line
        if log == "json":
            assert line.startswith(b'{"') and line.count(b'"event":') == 1, line
        else:
            assert TEXT_LINE.fullmatch(line), line
            keys = [key for key, _ in TEXT_VALUE.findall(line)]
            assert len(keys) == len(set(keys)) and b"id" not in keys, line
    assert b"accept" not in [line.split()[2] for line in text.splitlines() if len(line.split()) > 2] and not mta.events("accept")


def test_trace_field(start_mta, start_peer, to_peer):
    """What the client calls itself comes to the next server within one field, and ends nothing there."""
    peer = start_peer()
    mta = start_mta(to_peer(peer), listener={"role": "relay"})
    sent = 0
    for evil in EVIL:
        with Raw(mta) as client:
            client.send(octets(f"EHLO {evil}") + b"\r\n")
            if client.reply()[0] != 250:
                client.sock.settimeout(2)
                client.send(b"RSET\r\n")
                client.reply()
                continue
            client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\nDATA\r\n" + message() + b".\r\n")
            assert [client.reply()[0] for _ in range(4)] == [250, 250, 354, 250]
            sent += 1
    assert sent >= 8
    mta.wait_empty()
    assert len(peer.messages) == sent
    for got in peer.messages:
        head = got.content.split(b"\r\n\r\n", 1)[0]
        assert re.fullmatch(rb"[\t\r\n -~]*", head), head
        fields = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
        assert fields == [b"Received", b"From", b"To", b"Subject", b"Date", b"Message-ID"], head
        received = got.header("Received")
        # one "by", outside of comments and quotes, and it is ours
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", received)
        while re.search(r"\([^()]*\)", bare):
            bare = re.sub(r"\([^()]*\)", "", bare)
        assert re.findall(r"\bby (\S+)", bare) == ["mta.sender.example"], received
        assert bare.count(";") == 1, received


def test_quoted_addresses(start_mta, start_peer, to_peer):
    """Odd but sound mailboxes come to the next server as they are, as one argument of one command."""
    mailboxes = ['"a b"@b.example', '"a> SIZE=1 <x"@b.example', '"a\\"b"@b.example', '"a@c.example"@b.example', '"\\\\"@b.example',
                 '"> RET=FULL"@b.example', "a%b!c@b.example", "a'b`c|d@b.example", "-f@b.example"]
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    for mailbox in mailboxes:
        mta.submit([mailbox], sender=mailbox)
    mta.wait_empty()
    assert sorted(got.sender for got in peer.messages) == sorted(mailboxes)
    assert sorted(got.recipients[0] for got in peer.messages) == sorted(mailboxes)
    for mailbox in mailboxes:  # nor does the field that is made of the sender become two
        mta.submit(["bert@dest.example"], b"Subject: x\r\n\r\nbody\r\n", sender=mailbox)
    mta.wait_empty()
    for got in peer.messages[len(mailboxes):]:
        head = got.content.split(b"\r\n\r\n")[0].split(b"\r\n")
        assert [line for line in head if line.startswith(b"From:")] == [f"From: {got.sender}".encode()]
        assert sorted(line.split(b":")[0] for line in head if line[:1] not in b" \t") == [
            b"Date", b"From", b"Message-ID", b"Received", b"Subject"]
