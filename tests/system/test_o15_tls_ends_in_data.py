"""Case O15: TLS ends in the middle of a message, by DATA or in chunks. The message is dropped, the session closed,
nothing is read from the raw socket any more."""

import ssl

import pytest

from mta import message
from rawclient import CONTEXT, Raw


class Wire:
    """TLS by hand: records go out when and as we say."""

    def __init__(self, client):
        self.sock = client.sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = CONTEXT.wrap_bio(self.incoming, self.outgoing)
        self._step(self.tls.do_handshake)

    def _step(self, call):
        while True:
            try:
                result = call()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)

    def flush(self):
        pending = self.outgoing.read()
        if pending:
            self.sock.sendall(pending)

    def command(self, line, code):
        self.tls.write(line.encode() + b"\r\n")
        self.flush()
        reply = b""
        while not reply.endswith(b"\r\n") or reply.split(b"\r\n")[-2][3:4] == b"-":
            reply += self._step(lambda: self.tls.read(65536))
        assert reply.startswith(str(code).encode()), reply

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()


def fatal_alert(wire):
    """Ours, encrypted: what we read is no record of this session."""
    wire.incoming.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    with pytest.raises(ssl.SSLError):
        wire.tls.read(1)
    wire.flush()


ENDINGS = {
    "close_notify": lambda wire: wire.close_notify(),
    "close_notify and clear text": lambda wire: (wire.close_notify(), wire.sock.sendall(b"\r\n.\r\nQUIT\r\n")),
    "close_notify and one byte": lambda wire: (wire.close_notify(), wire.sock.sendall(b"\n")),
    "FIN": lambda wire: wire.sock.shutdown(1),
    "fatal alert": fatal_alert,
    "clear-text alert": lambda wire: wire.sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28"),
    "empty record": lambda wire: wire.sock.sendall(b"\x17\x03\x03\x00\x00" * 3),
    "clear text": lambda wire: wire.sock.sendall(b"\r\n.\r\n"),
    "half a record": lambda wire: (wire.sock.sendall(b"\x17\x03\x03\x40\x00abc"), wire.sock.shutdown(1)),
}
HALF = message() + b"half of it\r\n" * 5000


@pytest.fixture(scope="module")
def mta(start_shared, certificate):
    return start_shared({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}}, listener={"tls": "optional"})


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_tls_ends_in_data(mta, monkeypatch, command, maximum):
    monkeypatch.setattr(CONTEXT, "maximum_version", maximum)
    for name, end in ENDINGS.items():
        with Raw(mta) as client:
            client.command("EHLO client.sender.example", 250)
            client.command("STARTTLS", 220)
            wire = Wire(client)
            wire.command("EHLO client.sender.example", 250)
            wire.command("MAIL FROM:<anna@sender.example>", 250)
            wire.command("RCPT TO:<bert@dest.example>", 250)
            if command == "DATA":
                wire.command("DATA", 354)
            else:  # the end of the chunk is still to come, and were clear text read, it would come
                wire.tls.write(b"BDAT %d LAST\r\n" % (len(HALF) + 1))
            wire.tls.write(HALF)
            wire.flush()
            end(wire)
            assert client.at_end(), f"the session goes on after TLS ended: {name}"
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
    assert mta.queued() == 0 and not mta.events("accept")
