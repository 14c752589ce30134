"""A client that ends its sending side at once (nc -N) still reads: whatever it asked completely is answered."""

import socket
import ssl

import pytest

from mta import message
from rawclient import CONTEXT, Raw

ENVELOPE = b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\nDATA\r\n"
MESSAGE = ENVELOPE + message() + b".\r\n"


def codes(session):
    """The first line of each reply up to the end of the connection."""
    found = []
    while True:
        try:
            found.append(session.reply()[0])
        except EOFError:
            return found


@pytest.mark.parametrize("said, expected, accepted", [
    (MESSAGE, [250, 250, 354, 250], 1),
    (MESSAGE + b"QUIT\r\n", [250, 250, 354, 250, 221], 1),
    (MESSAGE + MESSAGE, [250, 250, 354, 250] * 2, 2),
    (MESSAGE + ENVELOPE + b"Subject: cut\r\n", [250, 250, 354, 250, 250, 250, 354], 1),
    (b"RSET\r\n", [250], 0),
], ids=["one message", "and QUIT", "two messages", "the second cut", "no message"])
def test_client_ends_its_side(start_mta, said, expected, accepted):
    mta = start_mta({"retry": {"intervals": ["1h"]}})
    with Raw(mta) as client:
        client.send(b"EHLO client.sender.example\r\n" + said)
        client.sock.shutdown(socket.SHUT_WR)
        assert codes(client) == [250] + expected
    assert mta.queued() == accepted


def test_client_ends_tls(start_mta, certificate):
    """Under TLS with close_notify."""
    mta = start_mta({"retry": {"intervals": ["1h"]},
                     "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}},
                    listener={"tls": "optional"})
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = CONTEXT.wrap_bio(came, goes)

    def exchange(step, *arguments):
        while True:
            try:
                return step(*arguments)
            except ssl.SSLWantReadError:
                client.send(goes.read())
                data = client.sock.recv(65536)
                if not data:
                    raise
                came.write(data)

    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.command("STARTTLS", 220)
        exchange(tls.do_handshake)
        tls.write(b"EHLO client.sender.example\r\n" + MESSAGE)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()  # close_notify of this side only
        answers = b""
        while b"queued as" not in answers:
            answers += exchange(tls.read, 65536)
    assert mta.queued() == 1
