"""The scripted server itself: what it says it saw must be true before tests lean on it. Client: smtplib."""
import hashlib
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from peer import Peer, RemotePeer  # noqa: E402
from sink import Sink  # noqa: E402

MESSAGE = b"X-Test-Id: a1\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nend\r\n"
TRUST_ALL = ssl._create_unverified_context()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=peer.example",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def client(peer, timeout=5):
    return smtplib.SMTP(peer.address, peer.port, local_hostname="me.example", timeout=timeout)


def send(smtp, recipients=("a@x",), message=MESSAGE):
    return smtp.sendmail("s@x", list(recipients), message)


def test_takes_a_message_over_tls(tls):
    with Peer(tls=tls) as peer, client(peer) as smtp:
        smtp.starttls(context=TRUST_ALL)
        send(smtp)
        message = peer.wait_for(lambda record: record.messages)[0]
        assert (message.content, message.sender, message.recipients) == (MESSAGE, "s@x", ["a@x"])
        assert message.raw == MESSAGE.replace(b"\n.", b"\n..")
        assert message.tls == peer.connections[0].tls == "TLSv1.3"
        assert message.header("x-test-id") == "a1"
        assert peer.copies() == {"a1": {"a@x": 1}}
        assert peer.connections[0].commands()[0] == b"ehlo me.example"


def test_refuses_by_address_and_index():
    script = [{"stage": "rcpt", "address": "B@x", "reply": "550 5.1.1 no"},
              {"stage": "rcpt", "index": 3, "reply": ["451", "4.7.1 later", "again"], "pieces": 1}]
    with Peer(script=script) as peer, client(peer) as smtp:
        refused = send(smtp, ["a@x", "b@x", "c@x", "d@x"])
        assert refused == {"b@x": (550, b"5.1.1 no"), "c@x": (451, b"4.7.1 later\nagain")}
        assert peer.messages[0].recipients == ["a@x", "d@x"] and peer.messages[0].refused == ["b@x", "c@x"]


@pytest.mark.parametrize("ends", ["close", "reset"])
def test_drops_after_the_dot_but_has_it(ends):
    with Peer(script=[{"stage": "dot", ends: True, "accept": True, "times": 1}]) as peer:
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            send(client(peer))
        with client(peer) as smtp:
            send(smtp)
        assert peer.copies() == {"a1": {"a@x": 2}}
        assert peer.messages[0].reply is None and peer.messages[1].reply.startswith("250")
        peer.wait_for(lambda record: record.connections[1].end)
        assert peer.connections[0].end == {"close": "closed", "reset": "reset"}[ends]


def test_limits_a_rule_to_connection_and_transaction():
    script = [{"stage": "mail", "connection": 2, "transaction": 2, "reply": "450 4.7.1 not now"}]
    with Peer(script=script) as peer:
        for number in (1, 2):
            with client(peer) as smtp:
                send(smtp)
                if number == 1:
                    send(smtp)
                else:
                    with pytest.raises(smtplib.SMTPSenderRefused):
                        send(smtp)
        assert len(peer.accepted("A@X")) == 3


def test_sends_garbage_as_greeting():
    with Peer(script=[{"stage": "greeting", "raw": "HTTP/1.1 400 Bad\r\n", "close": True}]) as peer:
        with pytest.raises(smtplib.SMTPConnectError):
            client(peer)


def test_is_silent_at_data():
    with Peer(script=[{"stage": "data", "silence": True}]) as peer:
        smtp = client(peer, timeout=0.5)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(smtp)
        peer.wait_for(lambda record: record.connections[0].end == "client closed")
        assert not peer.messages


def test_refuses_within_the_content():
    script = [{"stage": "content", "after": 100000, "reply": "452 4.3.1 full", "close": True}]
    with Peer(script=script, receive_buffer=4096) as peer:
        with pytest.raises((smtplib.SMTPException, OSError)):
            send(client(peer), message=MESSAGE + b"y\r\n" * 1000000)
        assert not peer.messages
        assert peer.connections[0].replies[-1][1:] == ("content", b"452 4.3.1 full\r\n")


def test_reads_slowly_then_not_at_all():
    with Peer(script=[{"stage": "content", "read_bytes": 100, "interval": 0.01}]) as peer, client(peer) as smtp:
        begin = time.monotonic()
        send(smtp, message=MESSAGE + b"z\r\n" * 1000)
        assert time.monotonic() - begin > 0.25
        peer.script([{"stage": "content", "stop_reading": True}])
        smtp.sock.settimeout(0.5)
        with pytest.raises((smtplib.SMTPException, OSError)):
            send(smtp, message=MESSAGE + b"y\r\n" * 5000000)
        assert len(peer.messages) == 1


def test_says_421_when_idle():
    with Peer(script=[{"stage": "idle", "after": 0.3, "reply": "421 4.4.2 idle", "close": True}]) as peer:
        smtp = client(peer)
        send(smtp)
        begin = time.monotonic()
        assert smtp.sock.recv(100) == b"421 4.4.2 idle\r\n"
        assert 0.2 < time.monotonic() - begin < 2
        assert smtp.sock.recv(100) == b""


@pytest.mark.parametrize("rule", [{"raw": "250 ok\r\n"}, {"reset": True}, {"close": True}, {"silence": True}])
def test_breaks_the_handshake(tls, rule):
    with Peer(tls=tls, script=[{"stage": "tls", **rule}]) as peer:
        smtp = client(peer, timeout=0.5)
        with pytest.raises(OSError):
            smtp.starttls(context=TRUST_ALL)
        assert peer.connections[0].tls is None


def test_refuses_ehlo_and_takes_helo():
    with Peer(script=[{"stage": "ehlo", "reply": "502 5.5.1 what"}], extensions=()) as peer, client(peer) as smtp:
        send(smtp)
        assert peer.connections[0].commands()[:2] == [b"ehlo me.example", b"helo me.example"]


def test_asks_a_function():
    def by_size(session, rule):
        return {"reply": "552 5.3.4 big"} if "size=" in session.parameters else None

    with Peer(script=[{"stage": "rcpt", "call": by_size}]) as peer, client(peer) as smtp:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(smtp)


def test_shows_what_came_in_one_write():
    with Peer() as peer, socket.create_connection((peer.address, peer.port)) as sock:
        sock.recv(1000)
        sock.sendall(b"EHLO x\r\n")
        sock.recv(1000)
        batch = b"MAIL FROM:<>\r\nRCPT TO:<a@x>\r\nDATA\r\n"
        sock.sendall(batch)
        peer.wait_for(lambda record: record.connections[0].reads[-1][1] == batch)


def test_wait_for_tells_what_was_seen():
    with Peer() as peer, client(peer) as smtp:
        smtp.ehlo()
        with pytest.raises(AssertionError, match="ehlo me.example"):
            peer.wait_for(lambda record: record.messages, timeout=0.1)


def test_runs_as_a_process():
    with RemotePeer(address="127.0.0.1", port=0, script=[{"stage": "rcpt", "reply": "550 x"}]) as peer, client(peer) as smtp:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(smtp)
        peer.script([])
        deadline = time.monotonic() + 5
        while not peer.messages and time.monotonic() < deadline:  # the new script takes a moment to arrive
            try:
                send(smtp)
            except smtplib.SMTPRecipientsRefused:
                time.sleep(0.05)
            else:
                peer.wait_for(lambda record: record.messages)
        assert peer.messages[0].content == MESSAGE
    assert peer.process.returncode == 0


def sink_load(port, name, count, size, tls, sent):
    sock = socket.create_connection(("127.0.0.1", port))
    replies = sock.makefile("rb")

    def reply():
        line = replies.readline()
        while line[3:4] == b"-":
            line = replies.readline()
        return line[:3]

    reply()
    if tls:
        sock.sendall(b"EHLO x\r\nSTARTTLS\r\n")
        assert (reply(), reply()) == (b"250", b"220")
        sock = TRUST_ALL.wrap_socket(sock)
        replies = sock.makefile("rb")
    sock.sendall(b"EHLO x\r\n")
    reply()
    for i in range(count):
        key = f"{name}-{i}"
        text = b"X-Test-Id: %s\r\nA: b\r\n\r\n" % key.encode() + b".a line that begins with a dot\r\n" * (size // 32)
        sent[key] = hashlib.sha256(text).hexdigest()
        wire = b"\r\nReceived: by test\r\n\tfor x\r\n" + text
        sock.sendall(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n")
        assert [reply() for _ in range(3)] == [b"250", b"250", b"354"]
        sock.sendall(wire.replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        assert reply() == b"250"
    sock.sendall(b"QUIT\r\n")
    assert reply() == b"221"


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("size", [4096, 3000000])
def test_sink_is_exact(tls, encrypted, size):
    sent = {}
    count = 20 if size == 4096 else 1
    with Sink(tls=tls if encrypted else None) as sink:
        threads = [threading.Thread(target=sink_load, args=(sink.port, n, count, size, encrypted, sent)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.wait_for(10 * count)
        assert {m["key"]: m["sha256"] for m in sink.messages} == sent
        assert set(sink.counts.values()) == {1} and len(sink.counts) == 10 * count
        assert {m["tls"] for m in sink.messages} == ({"TLSv1.3"} if encrypted else {None})
