"""The listener against the letter of the RFCs, over raw sockets: every command in every state, pipelining cut at every
byte, everything too big, clients that stall, end halfway or send garbage, TLS records at wrong times.

Few daemons, many connections. What a session decides byte by byte is also in tests/unit/test_smtp_server*.c; here it
is the daemon with its sockets, its TLS and its queue.
"""

import random
import re
import socket
import ssl
import time

import pytest

from logins import plain, write_users
from mta import free_port, message
from rawclient import CONTEXT, Raw

HELLO = b"EHLO client.sender.example\r\n"
MAIL = b"MAIL FROM:<anna@sender.example>\r\n"
RCPT = b"RCPT TO:<bert@dest.example>\r\n"
ENVELOPE = HELLO + MAIL + RCPT
LIMIT = 1024 * 1024
RECIPIENTS = 10


@pytest.fixture
def start(start_mta, certificate):
    """start(...) -> a daemon that offers STARTTLS; what it accepts stays in its queue."""
    def run(listener=None, **changes):
        return start_mta({"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]},
                          "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}, **changes},
                         listener={"tls": "optional", "max_message_size": "1MiB", "max_recipients": RECIPIENTS,
                                   **(listener or {})})

    return run


def all_replies(client):
    """Up to the end of the connection: [(code, text)]. Each must be well-formed."""
    found = []
    while True:
        try:
            found.append(client.reply())
        except (EOFError, ConnectionResetError, ssl.SSLError):
            return found


def end_our_side_of(sock):
    """FIN, without a word of TLS."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_WR)
    except OSError:
        pass  # ended by the server


def rest_of(sock):
    """What still comes up to the end, an orderly one or not."""
    said = b""
    try:
        while data := sock.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said


def codes_of(client, sent):
    """Sends, ends our side, and gives the codes of all replies."""
    client.send(sent)
    end_our_side_of(client.sock)
    return [code for code, _ in all_replies(client)]


# ---- every command in every state ----

STATES = {  # how to get there, and after how many replies
    "new": (b"", 0),
    "helo": (b"HELO client\r\n", 1),
    "ehlo": (HELLO, 1),
    "mail": (HELLO + MAIL, 2),
    "rcpt": (ENVELOPE, 3),
    "bdat": (ENVELOPE + b"BDAT 3\r\nx\r\n", 4),
    "refused mail": (HELLO + b"MAIL FROM:<a@b> SIZE=99999999\r\n", 2),
    "refused rcpt": (HELLO + MAIL + b"RCPT TO:<a@[bad>\r\n", 3),
    "failed bdat": (ENVELOPE + b"BDAT 3\r\nx\n\n", 4),
    "done": (ENVELOPE + b"DATA\r\n.\r\n", 5),
}
TABLE = """
                              new helo ehlo mail rcpt bdat -mail -rcpt -bdat done
EHLO x                        250 250 250 250 250 250 250 250 250 250
HELO x                        250 250 250 250 250 250 250 250 250 250
EHLO                          501 501 501 501 501 501 501 501 501 501
MAIL FROM:<a@b.example>       503 250 250 503 503 503 250 503 250 250
MAIL FROM:<>                  503 250 250 503 503 503 250 503 250 250
MAIL FROM:<a@b> BODY=8BITMIME 503 250 250 503 503 503 250 503 250 250
MAIL FROM:<a@b> SIZE=99999999 503 552 552 503 503 503 552 503 552 552
MAIL FROM:<a@b> SIZE=x        503 501 501 503 503 503 501 503 501 501
MAIL FROM:<a@b> BODY=BINARYMIME 503 555 555 503 503 503 555 503 555 555
MAIL FROM:<a@b> X=1           503 555 555 503 503 503 555 503 555 555
MAIL FROM:<a@b> SMTPUTF8      503 555 555 503 503 503 555 503 555 555
MAIL FROM:<a@b> RET=FULL      503 555 555 503 503 503 555 503 555 555
MAIL FROM:<a@b> REQUIRETLS    503 555 555 503 503 503 555 503 555 555
MAIL                          503 501 501 503 503 503 501 503 501 501
MAIL FROM:a@b                 503 501 501 503 503 503 501 503 501 501
RCPT TO:<a@b.example>         503 503 503 250 250 503 503 250 503 503
RCPT TO:<a@b> NOTIFY=NEVER    503 503 503 555 555 503 503 555 503 503
RCPT TO:<>                    503 503 503 501 501 503 503 501 503 503
RCPT                          503 503 503 501 501 503 503 501 503 503
DATA                          503 503 503 503 354 503 503 554 503 503
DATA x                        503 503 503 503 501 503 503 554 503 503
BDAT 3~x                      503 503 503 503 250 250 503 554 503 503
BDAT 3 LAST~x                 503 503 503 503 250 250 503 554 503 503
BDAT 0 LAST                   503 503 503 503 250 250 503 554 503 503
BDAT 3 MORE~x                 503 503 503 503 501 501 503 554 503 503
BDAT                          501 501 501 501 501 501 501 501 501 501
BDAT -1                       501 501 501 501 501 501 501 501 501 501
BDAT 9223372036854775808      501 501 501 501 501 501 501 501 501 501
RSET                          250 250 250 250 250 250 250 250 250 250
RSET x                        501 501 501 501 501 501 501 501 501 501
NOOP what ever                250 250 250 250 250 250 250 250 250 250
VRFY a                        252 252 252 252 252 252 252 252 252 252
VRFY                          501 501 501 501 501 501 501 501 501 501
EXPN a                        502 502 502 502 502 502 502 502 502 502
ETRN a                        502 502 502 502 502 502 502 502 502 502
TURN                          502 502 502 502 502 502 502 502 502 502
HELP                          214 214 214 214 214 214 214 214 214 214
AUTH PLAIN =                  503 502 502 503 503 503 502 503 502 502
QUIT                          221 221 221 221 221 221 221 221 221 221
QUIT x                        501 501 501 501 501 501 501 501 501 501
STARTTLS x                    501 501 501 501 501 501 501 501 501 501
STARTTLS                      220 220 220 220 220 220 220 220 220 220
FOO                           500 500 500 500 500 500 500 500 500 500
*                             500 500 500 500 500 500 500 500 500 500
GET / HTTP/1.1                421 421 421 421 421 421 421 421 421 421
"""


def table_rows(table, columns):
    for line in table.strip().splitlines()[1:]:
        command, codes = re.fullmatch(r"(.*?)\s+((?:\d{3}(?: |$))+)", line).groups()
        assert len(codes.split()) == columns, line
        yield command, [int(code) for code in codes.split()]


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
def test_every_command_in_every_state(start, tls):
    mta = start()
    wrong = []
    for command, expected in table_rows(TABLE, len(STATES)):
        for (state, (way, replies)), code in zip(STATES.items(), expected):
            if tls and state not in ("new", "rcpt", "bdat"):
                continue  # a handshake each
            if tls and command == "STARTTLS":
                code = 503
            with Raw(mta) as client:
                if tls:
                    client.starttls()
                client.send(way + command.replace("~", "\r\n").encode() + b"\r\n")
                for _ in range(replies):
                    client.reply()
                got = client.reply()
            if got[0] != code:
                wrong.append((command, state, got, code))
            elif got[0] != 354 and not command.startswith(("EHLO", "HELO")):
                assert got[1].startswith(f"{got[0] // 100}."), (command, got)  # RFC 2034
    assert not wrong, wrong


# The same where clients may log in: what AUTH does in each state, and each command within an exchange or behind a login.
GOOD = plain("anna", "secret").encode()
AUTH_STATES = {
    **{state: STATES[state] for state in ("new", "helo", "ehlo", "mail", "rcpt", "bdat", "refused mail", "done")},
    "in auth": (HELLO + b"AUTH PLAIN\r\n", 2),
    "within login": (HELLO + b"AUTH LOGIN\r\nYW5uYQ==\r\n", 3),
    "logged in": (HELLO + b"AUTH PLAIN " + GOOD + b"\r\n", 2),
    "mail of a user": (HELLO + b"AUTH PLAIN " + GOOD + b"\r\n" + MAIL, 3),
}
AUTH_TABLE = """
                        new helo ehlo mail rcpt bdat -mail done auth login user mail
AUTH PLAIN              503 334 334 503 503 503 334 334 501 501 503 503
AUTH LOGIN              503 334 334 503 503 503 334 334 501 501 503 503
auth plain GOOD         503 235 235 503 503 503 235 235 501 501 503 503
AUTH PLAIN !!!!         503 501 501 503 503 503 501 501 501 501 503 503
AUTH PLAIN AAA          503 501 501 503 503 503 501 501 501 501 503 503
AUTH PLAIN AAAA AAAA    503 501 501 503 503 503 501 501 501 501 503 503
AUTH NTLM               503 504 504 503 503 503 504 504 501 501 503 503
AUTH EXTERNAL           503 504 504 503 503 503 504 504 501 501 503 503
AUTH  PLAIN             503 334 334 503 503 503 334 334 501 501 503 503
*                       500 500 500 500 500 500 500 500 501 501 500 500
RSET x                  501 501 501 501 501 501 501 501 501 501 501 501
EHLO x                  250 250 250 250 250 250 250 250 501 501 250 250
MAIL FROM:<a@b>         503 250 250 503 503 503 250 250 501 501 250 503
RCPT TO:<a@b>           503 503 503 250 250 503 503 503 501 501 503 250
NOOP x                  250 250 250 250 250 250 250 250 501 501 250 250
BDAT 0 LAST             503 503 503 503 250 250 503 503 501 501 503 503
"""


def test_auth_in_every_state(start, tmp_path):
    write_users(tmp_path / "users", {"anna": "secret"})
    mta = start({"auth": "optional"}, users_file=str(tmp_path / "users"))
    wrong = []
    for command, expected in table_rows(AUTH_TABLE, len(AUTH_STATES)):
        for (state, (way, replies)), code in zip(AUTH_STATES.items(), expected):
            with Raw(mta) as client:
                client.send(way + command.encode().replace(b"GOOD", GOOD) + b"\r\n")
                for _ in range(replies):
                    client.reply()
                got = client.reply()
                if got[0] != code:
                    wrong.append((command, state, got, code))
                elif code == 334:  # any line is a response now, and one that is none ends the exchange
                    client.command("MAIL FROM:<a@b>", 501, "5.5.2")
                    client.command("MAIL FROM:<a@b>", 250)
    assert not wrong, wrong


def test_auth_token_too_long(start, tmp_path):
    """12288 octets are a line of AUTH (RFC 4954 section 4); one more is 500 5.5.6, and the session goes on."""
    write_users(tmp_path / "users", {"anna": "secret"})
    mta = start({"auth": "optional"}, users_file=str(tmp_path / "users"))
    with Raw(mta) as client:
        client.command("EHLO x", 250, "AUTH ")
        assert client.command("AUTH PLAIN " + "A" * 12_272)[0] in (501, 535)
        for length in (12_276, 200_000):
            client.command("AUTH PLAIN " + "A" * length, 500, "5.5.6")
            client.command("AUTH PLAIN", 334)
            client.command("A" * (length + 12), 500, "5.5.6")
        client.command("AUTH PLAIN", 334)
        assert client.command("A" * 12_284)[0] in (501, 535)
        client.command("AUTH PLAIN " + GOOD.decode(), 235)
    assert GOOD.decode() not in mta.log() and "AAAAAAAA" not in mta.log()


def test_announced(start):
    """What EHLO says, in clear and under TLS; HELO says nothing of it."""
    mta = start()
    keywords = ["PIPELINING", f"SIZE {LIMIT}", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"]
    with Raw(mta) as client:
        assert client.command("HELO x", 250) == "mta.sender.example"
        assert client.command("EHLO x", 250).split("\n") == ["mta.sender.example", *keywords, "STARTTLS", "HELP"]
        client.starttls()
        assert client.command("EHLO x", 250).split("\n") == ["mta.sender.example", *keywords, "HELP"]


# ---- pipelining, cut at every byte ----

BODY = b"X-Test-Id: %d\r\n\r\n%s"
SHORT = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
TALK = (b"EHLO x\r\n" + SHORT + b"RCPT TO:<@>\r\nDATA\r\n" + BODY % (1, b"..\r\n..two\r\nx.\r\n") + b".\r\n"
        + SHORT + b"BDAT %d\r\n" % len(BODY % (2, b".\r")) + BODY % (2, b".\r") + b"BDAT 4 LAST\r\n\n.\r\n"
        + b"MAIL FROM:<>\r\nRSET\r\nFOO\r\nDATA\r\n" + SHORT + b"DATA\r\nx\ny\r\n.\r\nQUIT\r\n")
TALK_CODES = [250, 250, 250, 501, 354, 250, 250, 250, 250, 250, 250, 250, 500, 503, 250, 250, 354, 554, 221]


def test_pipelining_cut_at_every_byte(start_mta, start_sink, to_peer):
    """Both parts of each cut are on the wire apart: the second leaves when the first has been read."""
    sink = start_sink()
    mta = start_mta(to_peer(sink))
    cuts = list(range(1, len(TALK)))
    for at in range(0, len(cuts), 100):
        clients = [(cut, Raw(mta)) for cut in cuts[at:at + 100]]
        for cut, client in clients:
            client.send(TALK[:cut])
        time.sleep(0.15)
        for cut, client in clients:
            client.send(TALK[cut:])
            assert [code for code, _ in all_replies(client)] == TALK_CODES, cut
            client.close()
    with Raw(mta) as client:
        client.send(TALK, one_by_one=True)
        assert [code for code, _ in all_replies(client)] == TALK_CODES
    sink.wait_for(2 * len(cuts) + 2)
    assert sink.counts == {"1": len(cuts) + 1, "2": len(cuts) + 1}
    assert len({found["sha256"] for found in sink.messages}) == 2  # all cuts gave the same two messages


def test_one_byte_a_tls_record(start):
    mta = start()
    with Raw(mta) as client:
        client.starttls()
        client.send(TALK, one_by_one=True)
        assert [code for code, _ in all_replies(client)] == TALK_CODES
    assert mta.queued() == 2


# ---- too big ----

def test_oversize_of_everything(start):
    mta = start()
    with Raw(mta) as client:
        client.command("EHLO " + "x" * 255, 250)
        client.command("EHLO " + "x" * 256, 501)
        client.command("NOOP " + "x" * 2041, 250)  # 2048 with its CRLF
        client.command("NOOP " + "x" * 2042, 500, "5.5.2")
        client.command("x" * 100_000, 500, "5.5.2")
        client.command("AUTH PLAIN " + "A" * 12_275, 502)  # as long as AUTH may be
        client.command("AUTH PLAIN " + "A" * 20_000, 500, "5.5.6")
        client.command("MAIL FROM:<" + "l" * 255 + "@b.example>", 250)
        client.command("RSET", 250)
        client.command("MAIL FROM:<" + "l" * 256 + "@b.example>", 501, "5.1.7")
        client.command("MAIL FROM:<a@" + ".".join(["d" * 63] * 4) + ">", 501, "5.1.7")  # 255 octets
        client.command("MAIL FROM:<a@" + "d" * 64 + ".example>", 501, "5.1.7")
        client.command("MAIL FROM:<a@b> SIZE=" + "9" * 20, 552, "5.3.4")
        client.command("MAIL FROM:<a@b> SIZE=" + "9" * 21, 501, "5.5.4")
        client.send(MAIL)
        client.expect(250)
        for number in range(RECIPIENTS):
            client.command(f"RCPT TO:<r{number}@dest.example>", 250)
        client.command("RCPT TO:<one@dest.example>", 452, "4.5.3")
        client.command("DATA", 354)
        client.send(message() + b".\r\n")
        client.expect(250)
    assert mta.queued() == 1
    with Raw(mta) as client:  # content: by DATA and in chunks; the session goes on behind each
        client.send(HELLO)
        client.expect(250)
        line = b"x" * 998 + b"\r\n"
        for content, status in [
                (message() + line * 1049, "5.3.4"),
                (b"Subject: x\r\n" + b"X: y\r\n" * 44_000 + b"\r\n", "5.3.4"),  # header section over 256 KiB
                (b"X: " + b"y" * 262_200 + b"\r\n\r\n", "5.3.4")]:
            client.send(MAIL + RCPT + b"DATA\r\n" + content + b".\r\n")
            assert [client.reply()[0] for _ in range(4)] == [250, 250, 354, 552]
            client.send(MAIL + RCPT + b"BDAT %d LAST\r\n" % len(content) + content)
            assert [client.reply()[0] for _ in range(2)] == [250, 250]
            client.expect(552, status)
        client.send(MAIL + RCPT + b"BDAT 9223372036854775807 LAST\r\n")
        assert [client.reply()[0] for _ in range(3)] == [250, 250, 552]
        client.send(b"RSET\r\n" * 10)  # all content
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.reply()
    assert mta.queued() == 1


# ---- clients that stall, or end halfway ----

def test_stalled_in_every_state(start):
    """One word, 421 4.4.2, and the end; whatever was begun is forgotten. All at once, since each takes its second."""
    mta = start(timeouts={"server": "1s", "tls": "1s"})
    ways = {state: way for state, (way, _) in STATES.items()}
    ways.update({
        "in a line": HELLO + b"MAIL FR", "in data": ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nhal",
        "in a chunk": ENVELOPE + b"BDAT 10\r\nhal", "in a refused chunk": HELLO + b"BDAT 10\r\nhal"})
    clients = {}
    for state, way in ways.items():
        clients[state] = Raw(mta)
        clients[state].send(way)
    silent, half = Raw(mta), Raw(mta)
    for client, rest in ((silent, b""), (half, b"\x16\x03\x01\x02\x00\x01")):
        client.command("STARTTLS", 220)
        client.send(rest)
    begun = time.monotonic()
    for state, client in clients.items():
        code, text = all_replies(client)[-1]
        assert (code, text[:5]) == (421, "4.4.2"), state
        client.close()
    for client in (silent, half):
        assert all_replies(client) == []  # in clear nothing may be said any more
        client.close()
    assert 0.5 < time.monotonic() - begun < 15
    assert mta.queued() == 1  # of the state "done"


def test_slow_but_alive(start):
    """A byte now and then keeps a session, longer than the time limit in all."""
    mta = start(timeouts={"server": "2s"})
    with Raw(mta) as client:
        begun = time.monotonic()
        for piece in [ENVELOPE[:10], ENVELOPE[10:], b"DA", b"TA\r\n", b"Sub", b"ject: x\r\n"]:
            client.send(piece)
            time.sleep(0.4)
        client.send(b"\r\n.\r\nQUIT\r\n")
        assert time.monotonic() - begun > 2
        assert [code for code, _ in all_replies(client)] == [250, 250, 250, 354, 250, 221]


HALF_CLOSED = {  # what is sent: what is answered
    b"": [],
    b"EHL": [],
    HELLO + b"NOOP": [250],
    ENVELOPE + b"BDAT 3 LAST\r\nx\r\n": [250, 250, 250, 250],
    ENVELOPE + b"BDAT 3\r\nx\r\n": [250, 250, 250, 250],
    ENVELOPE + b"BDAT 30 LAST\r\nx\r\n": [250, 250, 250],
    ENVELOPE + b"BDAT 3 LAST\r\nx": [250, 250, 250],
    ENVELOPE + b"DATA\r\nx\r\n.": [250, 250, 250, 354],
    ENVELOPE + b"DATA\r\nx\r\n.\r": [250, 250, 250, 354],
    ENVELOPE + b"DATA\r\nx\r\n.\r\n": [250, 250, 250, 354, 250],
    HELLO + b"BDAT 9 LAST\r\nx": [250, 503],
}


def test_half_closed(start):
    mta = start()
    for sent, codes in HALF_CLOSED.items():
        with Raw(mta) as client:
            assert codes_of(client, sent) == codes, sent
    assert mta.queued() == 2  # of which the end had come
    for sent in HALF_CLOSED:  # reset instead of an end: nothing to say any more, and nothing may fall over it
        with Raw(mta) as client:
            client.send(sent)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Raw(mta) as client:
        client.command("EHLO x", 250)


# ---- garbage ----

def garbage(generator):
    words = [HELLO, MAIL, RCPT, b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 2 LAST\r\n", b"\r\n.\r\n", b"\r\n", b"\n", b"\r", b".",
             b"AUTH PLAIN ", b"RSET\r\n", b"\0", b"\xff\xfe", bytes(range(256)), b"A" * 3000, b"NOOP\r\n"]
    return b"".join(generator.choice(words) if generator.random() < 0.8 else generator.randbytes(20) for _ in range(60))


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
def test_garbage(start, tls):
    """Replies stay whole, the daemon serves on; what was accepted by chance is a message with a known envelope."""
    mta = start()
    for seed in range(40):
        with Raw(mta) as client:
            if tls:
                client.starttls()
            client.send(garbage(random.Random(seed)))
            end_our_side_of(client.sock)
            assert all(200 <= code <= 599 for code, _ in all_replies(client)), seed
    for unit in mta.ctl("list"):
        assert unit["sender"] == "anna@sender.example"
    with Raw(mta) as client:
        client.command("EHLO x", 250)


# ---- TLS at wrong times ----

def client_hello():
    out = ssl.MemoryBIO()
    session = CONTEXT.wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


RECORDS = {
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "data": b"\x17\x03\x03\x00\x05EHLO\n",
    "change cipher": b"\x14\x03\x03\x00\x01\x01",
    "empty": b"\x17\x03\x03\x00\x00",
    "too long": b"\x16\x03\x03\xff\xff" + b"x" * 300,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"x" * 40,
    "clear text": HELLO + MAIL,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "nothing": b"",
}


def test_tls_records_at_wrong_times(start, certificate):
    implicit = free_port()
    mta = start()
    mta.write_config({"listeners": [
        dict(mta.config["listeners"][0]),
        dict(mta.config["listeners"][0], address=[f"127.0.0.1:{implicit}"], tls="implicit")]})
    mta.stop()
    mta.start()
    hello = client_hello()
    for name, record in dict(RECORDS, hello=hello).items():
        # In clear, where no TLS was asked for: bytes like others, never a handshake.
        with Raw(mta) as client:
            got = codes_of(client, record + b"\r\nRSET\r\n")
            assert set(got) <= {250, 500, 421}, (name, got)
        # In the middle of a message: content, refused for its bytes or taken.
        with Raw(mta) as client:
            got = codes_of(client, ENVELOPE + b"DATA\r\n" + record + b"\r\n.\r\n")
            assert got[:4] == [250, 250, 250, 354] and got[4] in (250, 554), (name, got)
        # In place of the handshake, behind STARTTLS and on a port of TLS: closed, without a word in clear.
        with Raw(mta) as client:
            client.command("STARTTLS", 220)
            if name != "hello":
                client.send(record)
                end_our_side_of(client.sock)
                assert b"250" not in rest_of(client.sock), name
        if name != "hello":
            with socket.create_connection(("127.0.0.1", implicit), 20) as sock:
                sock.sendall(record)
                end_our_side_of(sock)
                assert b"220" not in rest_of(sock), name
        # Inside TLS, but outside of a record of it.
        with Raw(mta) as client:
            client.command("STARTTLS", 220)
            raw = client.sock.dup()
            client.handshake()
            client.command("EHLO x", 250)
            if record:
                raw.sendall(record)
            else:
                raw.shutdown(socket.SHUT_WR)
            assert client.at_end(), name
            raw.close()
    # Ahead of the 220: dropped, the handshake cannot succeed with what is left of it.
    with Raw(mta) as client:
        client.send(b"STARTTLS\r\n" + hello)
        client.expect(220)
        client.handshake()  # a second hello of our own: that one counts
        client.command("EHLO x", 250)
    # TLS within TLS, and once more.
    with Raw(mta) as client:
        client.starttls()
        client.send(hello + b"\r\nSTARTTLS\r\nQUIT\r\n")
        codes = [code for code, _ in all_replies(client)]
        assert codes[0] == 500 and codes[-2:] == [503, 221]
    # And the port of TLS serves.
    with socket.create_connection(("127.0.0.1", implicit), 20) as sock, CONTEXT.wrap_socket(sock) as tls:
        assert tls.recv(100).startswith(b"220 ")
    for unit in mta.ctl("list"):
        assert unit["sender"] == "anna@sender.example"
