"""The listener against the letter of the RFCs, over raw sockets: every command in every state, pipelining cut at every
byte, everything too big, clients that stall, end halfway or send garbage, TLS records at wrong times.

Few daemons, many connections. What a session decides byte by byte is also in tests/unit/test_smtp_server*.c; here it
is the daemon with its sockets, its TLS and its queue.
"""

import concurrent.futures
import random
import re
import socket
import ssl
import time

import pytest

from logins import plain, write_users
from mta import free_port, message
from rawclient import CONTEXT, Door, Raw
from sink import Sink

HELLO = b"EHLO client.sender.example\r\n"
MAIL = b"MAIL FROM:<anna@sender.example>\r\n"
RCPT = b"RCPT TO:<bert@dest.example>\r\n"
ENVELOPE = HELLO + MAIL + RCPT
LIMIT = 1024 * 1024
RECIPIENTS = 10
GOOD = plain("anna", "secret").encode()
LISTENERS = {  # one daemon has them all
    "clear": {"tls": "optional", "auth": "off"},
    "auth": {"tls": "optional", "auth": "optional"},
    "demands": {"tls": "required", "auth": "optional"},
    "implicit": {"tls": "implicit", "auth": "off"},
}


class Server:
    """The daemon, a Door for each of its listeners, and the sink for mail to d.example; all other mail stays queued."""

    def __init__(self, start, certificate, folder, **options):
        self.sink = Sink()
        self.ports = {name: free_port() for name in LISTENERS}
        self.mta = start({
            "routes": [{"match": {"recipients": ["d.example"]}, "to": [f"127.0.0.1:{self.sink.port}"], "tls": "off"},
                       {"to": ["127.0.0.1:9"]}],
            "retry": {"intervals": ["1h"]}, "users_file": str(write_users(folder / "users", {"anna": "secret"})),
            "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])},
            "listeners": [{"address": f"127.0.0.1:{self.ports[name]}", "trusted": ["127.0.0.1"], "max_message_size": "1MiB",
                           "max_recipients": RECIPIENTS, **more} for name, more in LISTENERS.items()]},
            port=self.ports["clear"], **options)

    def door(self, name="clear"):
        return Door(("127.0.0.1", self.ports[name]))

    def wait_read(self):
        """Until it has read all that the clients have sent."""
        ports = {f"{port:04X}" for port in self.ports.values()}
        end = time.monotonic() + 60
        while True:
            with open("/proc/thread-self/net/tcp", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
            unread = [row for row in rows if row[1][-4:] in ports and row[3] == "01" and row[4].split(":")[1] != "00000000"]
            if not unread:
                return
            assert time.monotonic() < end, unread
            time.sleep(0.01)


@pytest.fixture(scope="module")
def server(start_shared, certificate, tmp_path_factory):
    made = Server(start_shared, certificate, tmp_path_factory.mktemp("server"))
    yield made
    made.sink.stop()


@pytest.fixture
def quick_server(start_mta, certificate, tmp_path):
    """Without sanitizers, for what is done a thousand times (tests/unit does it with them)."""
    made = Server(start_mta, certificate, tmp_path, build="release")
    yield made
    made.sink.stop()


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
    "TLS demanded": (HELLO, 1),
}
TABLE = """
                              new helo ehlo mail rcpt bdat -mail -rcpt -bdat done demand
EHLO x                        250 250 250 250 250 250 250 250 250 250 250
HELO x                        250 250 250 250 250 250 250 250 250 250 250
EHLO                          501 501 501 501 501 501 501 501 501 501 501
MAIL FROM:<a@b.example>       503 250 250 503 503 503 250 503 250 250 530
MAIL FROM:<>                  503 250 250 503 503 503 250 503 250 250 530
MAIL FROM:<a@b> BODY=8BITMIME 503 250 250 503 503 503 250 503 250 250 530
MAIL FROM:<a@b> SIZE=99999999 503 552 552 503 503 503 552 503 552 552 530
MAIL FROM:<a@b> SIZE=x        503 501 501 503 503 503 501 503 501 501 530
MAIL FROM:<a@b> BODY=BINARYMIME 503 555 555 503 503 503 555 503 555 555 530
MAIL FROM:<a@b> X=1           503 555 555 503 503 503 555 503 555 555 530
MAIL FROM:<a@b> SMTPUTF8      503 555 555 503 503 503 555 503 555 555 530
MAIL FROM:<a@b> RET=FULL      503 555 555 503 503 503 555 503 555 555 530
MAIL FROM:<a@b> REQUIRETLS    503 555 555 503 503 503 555 503 555 555 530
MAIL                          503 501 501 503 503 503 501 503 501 501 530
MAIL FROM:a@b                 503 501 501 503 503 503 501 503 501 501 530
RCPT TO:<a@b.example>         503 503 503 250 250 503 503 250 503 503 530
RCPT TO:<a@b> NOTIFY=NEVER    503 503 503 555 555 503 503 555 503 503 530
RCPT TO:<>                    503 503 503 501 501 503 503 501 503 503 530
RCPT                          503 503 503 501 501 503 503 501 503 503 530
DATA                          503 503 503 503 354 503 503 554 503 503 530
DATA x                        503 503 503 503 501 503 503 554 503 503 530
BDAT 3~x                      503 503 503 503 250 250 503 554 503 503 530
BDAT 3 LAST~x                 503 503 503 503 250 250 503 554 503 503 530
BDAT 0 LAST                   503 503 503 503 250 250 503 554 503 503 530
BDAT 3 MORE~x                 503 503 503 503 501 501 503 554 503 503 530
BDAT                          501 501 501 501 501 501 501 501 501 501 501
BDAT -1                       501 501 501 501 501 501 501 501 501 501 501
BDAT 9223372036854775808      501 501 501 501 501 501 501 501 501 501 501
RSET                          250 250 250 250 250 250 250 250 250 250 250
RSET x                        501 501 501 501 501 501 501 501 501 501 501
NOOP what ever                250 250 250 250 250 250 250 250 250 250 250
VRFY a                        252 252 252 252 252 252 252 252 252 252 530
VRFY                          501 501 501 501 501 501 501 501 501 501 530
EXPN a                        502 502 502 502 502 502 502 502 502 502 502
ETRN a                        502 502 502 502 502 502 502 502 502 502 502
TURN                          502 502 502 502 502 502 502 502 502 502 502
HELP                          214 214 214 214 214 214 214 214 214 214 214
AUTH PLAIN =                  503 502 502 503 503 503 502 503 502 502 538
QUIT                          221 221 221 221 221 221 221 221 221 221 221
QUIT x                        501 501 501 501 501 501 501 501 501 501 501
STARTTLS x                    501 501 501 501 501 501 501 501 501 501 501
STARTTLS                      220 220 220 220 220 220 220 220 220 220 220
FOO                           500 500 500 500 500 500 500 500 500 500 500
*                             500 500 500 500 500 500 500 500 500 500 500
GET / HTTP/1.1                421 421 421 421 421 421 421 421 421 421 421
"""


def table_rows(table, columns):
    for line in table.strip().splitlines()[1:]:
        command, codes = re.fullmatch(r"(.*?)\s+((?:\d{3}(?: |$))+)", line).groups()
        assert len(codes.split()) == columns, line
        yield command, [int(code) for code in codes.split()]


def ask(client, way, replies, command):
    """What the command gets behind a way into a state."""
    client.send(way + command + b"\r\n")
    for _ in range(replies):
        client.reply()
    return client.reply()


def check_reply(wrong, where, command, got, code):
    if got[0] != code:
        wrong.append((command, where, got, code))
    elif code != 354 and not command.startswith((b"EHLO", b"HELO")):
        assert got[1].startswith(f"{code // 100}."), (command, got)  # RFC 2034


def test_every_command_in_every_state(server):
    wrong = []
    for command, expected in table_rows(TABLE, len(STATES)):
        command = command.replace("~", "\r\n").encode()
        for (state, (way, replies)), code in zip(STATES.items(), expected):
            with Raw(server.door("demands" if state == "TLS demanded" else "clear")) as client:
                check_reply(wrong, state, command, ask(client, way, replies, command), code)
    assert not wrong, wrong


def test_every_command_under_tls(server):
    """Here one session goes on to the next state, as long as it lives: a handshake for each cell would take longer than all
    the rest."""
    wrong = []
    for command, expected in table_rows(TABLE, len(STATES)):
        command = command.replace("~", "\r\n").encode()
        client = None
        for (state, (way, replies)), code in zip(STATES.items(), expected):
            if state not in ("new", "rcpt", "bdat"):
                continue
            if client is None:
                client = Raw(server.door())
                client.starttls()
            check_reply(wrong, state, command, ask(client, way, replies, command), 503 if command == b"STARTTLS" else code)
            if code == 354:
                client.command(".", 250)
            elif code in (221, 421) or command.startswith((b"BDAT 9", b"BDAT -")):  # how many octets follow, nobody knows
                assert client.at_end()
                client.close()
                client = None
        if client is not None:
            client.close()
    assert not wrong, wrong


# The same where clients may log in: what AUTH does in each state, and each command within an exchange or behind a login.
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


def test_auth_in_every_state(server):
    wrong = []
    for command, expected in table_rows(AUTH_TABLE, len(AUTH_STATES)):
        command = command.encode().replace(b"GOOD", GOOD)
        for (state, (way, replies)), code in zip(AUTH_STATES.items(), expected):
            with Raw(server.door("auth")) as client:
                got = ask(client, way, replies, command)
                if got[0] != code:
                    wrong.append((command, state, got, code))
                elif code == 334:  # any line is a response now, and one that is none ends the exchange
                    client.command("MAIL FROM:<a@b>", 501, "5.5.2")
                    client.command("MAIL FROM:<a@b>", 250)
    assert not wrong, wrong


def test_auth_token_too_long(server):
    """12288 octets are a line of AUTH (RFC 4954 section 4); one more is 500 5.5.6, and the session goes on."""
    with Raw(server.door("auth")) as client:
        client.command("EHLO x", 250, "AUTH ")
        client.command("AUTH PLAIN " + "B" * 12_272, 501, "5.5.2")
        for length in (12_276, 200_000):
            client.command("AUTH PLAIN " + "B" * length, 500, "5.5.6")
            client.command("AUTH PLAIN", 334)
            client.command("B" * (length + 12), 500, "5.5.6")
        client.command("AUTH PLAIN", 334)
        client.command("B" * 12_284, 501, "5.5.2")
        client.command("AUTH PLAIN " + GOOD.decode(), 235)
    log = server.mta.log()
    assert GOOD.decode() not in log and "BBBBBBBB" not in log


def test_announced(server):
    """What EHLO says, in clear and under TLS; HELO says nothing of it."""
    keywords = ["PIPELINING", f"SIZE {LIMIT}", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"]
    with Raw(server.door()) as client:
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
LOGIN = b"EHLO x\r\nAUTH PLAIN\r\n" + GOOD + b"\r\nMAIL FROM:<>\r\nAUTH LOGIN\r\nRSET\r\nAUTH PLAIN =\r\nQUIT\r\n"
LOGIN_CODES = [250, 334, 235, 250, 503, 250, 503, 221]


def cut_everywhere(server, door, talk, codes):
    """Both parts of each cut are on the wire apart: the second leaves when the first has been read."""
    cuts = range(1, len(talk))
    for at in range(0, len(cuts), 100):
        clients = [(cut, Raw(door)) for cut in cuts[at:at + 100]]
        for cut, client in clients:
            client.send(talk[:cut])
        server.wait_read()
        for cut, client in clients:
            client.send(talk[cut:])
            assert [code for code, _ in all_replies(client)] == codes, cut
            client.close()


def test_pipelining_cut_at_every_byte(server, quick_server):
    cut_everywhere(quick_server, quick_server.door("auth"), LOGIN, LOGIN_CODES)
    cut_everywhere(quick_server, quick_server.door(), TALK, TALK_CODES)
    for tls in (False, True):  # every byte in a segment, or in a record of TLS, of its own
        with Raw(server.door()) as client:
            if tls:
                client.starttls()
            client.send(TALK, one_by_one=True)
            assert [code for code, _ in all_replies(client)] == TALK_CODES
    found = []
    for sink, talks in ((quick_server.sink, len(TALK) - 1), (server.sink, 2)):
        sink.wait_for(2 * talks)
        assert sink.counts == {"1": talks, "2": talks}
        found += sink.messages
    assert len({message["sha256"] for message in found}) == 2  # all cuts gave the same two messages


# ---- too big ----

def test_oversize_of_everything(server):
    before = server.mta.queued()
    with Raw(server.door()) as client:
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
    with Raw(server.door()) as client:  # content: by DATA and in chunks; the session goes on behind each
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
        end_our_side_of(client.sock)
        assert all_replies(client) == []
    assert server.mta.queued() == before + 1


# ---- clients that stall, or end halfway ----

TIMEOUT_S = 2
STALLED = {
    **{state: way for state, (way, _) in STATES.items()},
    "in a line": HELLO + b"MAIL FR", "in data": ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nhal",
    "in a chunk": ENVELOPE + b"BDAT 10\r\nhal", "in a refused chunk": HELLO + b"BDAT 10\r\nhal",
    "in AUTH": HELLO + b"AUTH PLAIN\r\n", "in a line of AUTH": HELLO + b"AUTH LOGIN\r\nYW5u",
}
STALLED_IN_TLS = {"in clear behind STARTTLS": b"", "in the handshake": b"\x16\x03\x01\x02\x00\x01"}


def stall(mta, way, tls):
    """All replies behind the greeting, and how long the server waited from the last byte on."""
    with Raw(mta) as client:
        if tls:
            client.command("STARTTLS", 220)
        else:
            client.send(way[:-1])
            time.sleep(0.7)
            way = way[-1:]
        begun = time.monotonic()
        client.send(way)
        return all_replies(client), time.monotonic() - begun


def keep_alive(mta):
    """A byte now and then, longer than the time limit in all."""
    with Raw(mta) as client:
        begun = time.monotonic()
        for piece in [ENVELOPE[:10], ENVELOPE[10:], b"DA", b"TA\r\n", b"Sub", b"ject: x\r\n"]:
            client.send(piece)
            time.sleep(0.4)
        client.send(b"\r\n.\r\nQUIT\r\n")
        return [code for code, _ in all_replies(client)], time.monotonic() - begun


def test_stalled_in_every_state(start_mta, certificate, tmp_path):
    """One word, 421 4.4.2, and the end; whatever was begun is forgotten. A slow client is none of these. All at once, since
    each takes its time."""
    mta = start_mta({"timeouts": {"server": f"{TIMEOUT_S}s", "tls": f"{TIMEOUT_S}s"}, "retry": {"intervals": ["1h"]},
                     "routes": [{"to": ["127.0.0.1:9"]}], "users_file": str(write_users(tmp_path / "users", {"anna": "secret"})),
                     "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}},
                    listener={"tls": "optional", "auth": "optional"})
    ways = {**STALLED, **STALLED_IN_TLS}
    with concurrent.futures.ThreadPoolExecutor(len(ways) + 1) as clients:
        alive = clients.submit(keep_alive, mta)
        runs = {name: clients.submit(stall, mta, way, name in STALLED_IN_TLS) for name, way in ways.items()}
        for name, run in runs.items():
            replies, seconds = run.result()
            if name in STALLED_IN_TLS:
                assert replies == [], name  # in clear nothing may be said any more
            else:
                code, text = replies[-1]
                assert (code, text[:5]) == (421, "4.4.2"), name
            # Not before its time; how long after is the machine's matter, in reason.
            assert (1 if name == "new" else TIMEOUT_S - 0.5) < seconds < TIMEOUT_S + 30, name
        codes, seconds = alive.result()
    assert codes == [250, 250, 250, 354, 250, 221] and seconds > TIMEOUT_S
    assert mta.queued() == 2  # of the state "done", and of the slow one


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
    HELLO + b"AUTH PLAIN\r\n": [250, 334],
    HELLO + b"AUTH PLAIN\r\n" + GOOD: [250, 334],
    HELLO + b"AUTH PLAIN\r\n" + GOOD + b"\r\n": [250, 334, 235],
}


def test_half_closed(server):
    before = server.mta.queued()
    for sent, codes in HALF_CLOSED.items():
        with Raw(server.door("auth")) as client:
            assert codes_of(client, sent) == codes, sent
    assert server.mta.queued() == before + 2  # of which the end had come
    for sent in HALF_CLOSED:  # reset instead of an end: nothing to say any more, and nothing may fall over it
        with Raw(server.door("auth")) as client:
            client.send(sent)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Raw(server.door()) as client:
        client.command("EHLO x", 250)


# ---- garbage ----

def garbage(generator):
    words = [HELLO, MAIL, RCPT, b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 2 LAST\r\n", b"\r\n.\r\n", b"\r\n", b"\n", b"\r", b".",
             b"AUTH PLAIN ", b"RSET\r\n", b"\0", b"\xff\xfe", bytes(range(256)), b"A" * 3000, b"NOOP\r\n"]
    return b"".join(generator.choice(words) if generator.random() < 0.8 else generator.randbytes(20) for _ in range(60))


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
def test_garbage(server, tls):
    """Replies stay whole, the daemon serves on; what was accepted by chance is a message with a known envelope."""
    for seed in range(40):
        with Raw(server.door("auth")) as client:
            if tls:
                client.starttls()
            client.send(garbage(random.Random(seed)))
            end_our_side_of(client.sock)
            assert all(200 <= code <= 599 for code, _ in all_replies(client)), seed
    for unit in server.mta.ctl("list"):
        assert unit["sender"] == "anna@sender.example"
    with Raw(server.door()) as client:
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


def test_tls_records_at_wrong_times(server):
    hello = client_hello()
    for name, record in dict(RECORDS, hello=hello).items():
        # In clear, where no TLS was asked for: bytes like others, never a handshake.
        with Raw(server.door()) as client:
            got = codes_of(client, record + b"\r\nRSET\r\n")
            assert set(got) <= {250, 500, 421} and got[-1] in (250, 421), (name, got)
        # In the middle of a message: content, refused for its bytes or taken.
        with Raw(server.door()) as client:
            got = codes_of(client, ENVELOPE + b"DATA\r\n" + record + b"\r\n.\r\n")
            assert got[:4] == [250, 250, 250, 354] and got[4] in (250, 554), (name, got)
        # In place of the handshake, behind STARTTLS and on a port of TLS: closed, without a word in clear.
        with Raw(server.door()) as client:
            client.command("STARTTLS", 220)
            if name != "hello":
                client.send(record)
                end_our_side_of(client.sock)
                assert b"250" not in rest_of(client.sock), name
        if name != "hello":
            with server.door("implicit").connect() as sock:
                sock.sendall(record)
                end_our_side_of(sock)
                assert b"220" not in rest_of(sock), name
        # Inside TLS, but outside of a record of it.
        with Raw(server.door()) as client:
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
    with Raw(server.door()) as client:
        client.send(b"STARTTLS\r\n" + hello)
        client.expect(220)
        client.handshake()  # a second hello of our own: that one counts
        client.command("EHLO x", 250)
    # TLS within TLS, and once more.
    with Raw(server.door()) as client:
        client.starttls()
        client.send(hello + b"\r\nSTARTTLS\r\nQUIT\r\n")
        codes = [code for code, _ in all_replies(client)]
        assert codes[0] == 500 and codes[-2:] == [503, 221]
    # And the port of TLS serves.
    with server.door("implicit").connect() as sock, CONTEXT.wrap_socket(sock) as tls:
        assert tls.recv(100).startswith(b"220 ")
    for unit in server.mta.ctl("list"):
        assert unit["sender"] == "anna@sender.example"
