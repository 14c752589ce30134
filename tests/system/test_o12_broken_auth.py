"""Case O12: whatever a client sends as its credentials, or stops sending, gets a reply; the session stays usable, and
nothing of it is ever in the log."""

import base64

import pytest

from logins import plain, write_users
from rawclient import Raw

SECRET = "correct horse battery staple"
GOOD = plain("anna", SECRET)
WRONG = ["u1", "u2", "u3", "u4", "u5"]  # a user each: an answer to a wrong password waits for the ones before it


def encoded(text):
    return base64.b64encode(text.encode()).decode()


MALFORMED = {  # as the initial response and as the answer to 334
    "no base64": "!!!!",
    "half a group": "AAA",
    "padding alone": "=",
    "too much padding": "A===",
    "padding within": "AA=A",
    "base64url": "AAA-_w==",
    "two groups": GOOD + " " + GOOD,
    "no NUL": encoded("anna " + SECRET),
    "one NUL": encoded("anna\0" + SECRET),
    "three NULs": encoded(f"\0anna\0{SECRET}\0"),
    "no name": encoded(f"\0\0{SECRET}"),
    "NULs alone": encoded("\0\0\0"),
}
LOGIN = {  # the answers to the questions of LOGIN
    "name no base64": ["YW5uY!=="],
    "no name": [""],
    "NUL in the name": [encoded("an\0na")],
    "password no base64": [encoded("anna"), SECRET],
    "NUL in the password": [encoded("anna"), encoded(SECRET + "\0")],
}


@pytest.fixture(scope="module")
def mta(start_shared, tmp_path_factory):
    users = write_users(tmp_path_factory.mktemp("users") / "users", {name: SECRET for name in ["anna", *WRONG]})
    return start_shared({"users_file": str(users), "log": {"level": "debug"}},
                        listener={"auth": "optional", "cleartext_auth": "loopback", "trusted": []})


def check_usable(client):
    """A login works as if nothing had happened; a second one, or one within a transaction, does not."""
    client.command("NOOP", 250)
    client.command("AUTH PLAIN " + GOOD, 235, "2.7.0")
    client.command("AUTH PLAIN " + GOOD, 503, "5.5.1")
    client.command("MAIL FROM:<anna@sender.example>", 250)
    client.command("AUTH LOGIN", 503, "5.5.1")
    client.command("RCPT TO:<bert@dest.example>", 250)
    client.command("AUTH PLAIN " + GOOD, 503, "5.5.1")


def check_unlogged(mta, *secrets):
    log = mta.log()
    assert mta.events("reject") and not [secret for secret in (SECRET, GOOD, *secrets) if secret in log]


def test_malformed(mta):
    for name, token in MALFORMED.items():
        for asked in (False, True):
            with Raw(mta) as client:
                client.command("EHLO x", 250, "AUTH ")
                if asked:
                    client.command("AUTH PLAIN", 334)
                got = client.command(token if asked else "AUTH PLAIN " + token)
                assert got[0] == 501 and got[1].startswith("5.5.2 "), (name, asked, got)
                check_usable(client)
    for name, answers in LOGIN.items():
        with Raw(mta) as client:
            client.command("EHLO x", 250)
            client.command("AUTH LOGIN", 334)
            for answer in answers[:-1]:
                client.command(answer, 334)
            got = client.command(answers[-1])
            assert got[0] == 501 and got[1].startswith("5.5.2 "), (name, got)
            check_usable(client)
    check_unlogged(mta, *(token for token in MALFORMED.values() if len(token) > 8))


def test_empty_and_cancelled(mta):
    ways = [["AUTH PLAIN", ""], ["AUTH PLAIN", "*"], ["AUTH LOGIN", "*"], ["AUTH LOGIN", encoded("anna"), "*"],
            ["AUTH LOGIN " + encoded("anna"), "*"], ["AUTH SCRAM-SHA-256", "*"],
            ["AUTH SCRAM-SHA-256", encoded("n,,n=anna,r=rOprNGfwEbeRWgbNEkqO"), "*"]]
    for way in ways:
        with Raw(mta) as client:
            client.command("EHLO x", 250)
            for line in way[:-1]:
                client.command(line, 334)
            client.command(way[-1], 501, "5.7.0" if way[-1] == "*" else "5.5.2")
            client.command("*", 500)  # no exchange is left to be cancelled
            check_usable(client)


def test_wrong(mta):
    """535, late: all at once, since each waits."""
    tokens = [plain("u1", "wrong " + SECRET), plain("u2", ""), encoded(f"u4\0u3\0{SECRET}"), plain("u4", SECRET + " "),
              plain("u5", "x" * 9000)]
    clients = []
    for token in tokens:
        clients.append(Raw(mta))
        clients[-1].send(f"EHLO x\r\nAUTH PLAIN {token}\r\n".encode())
    for token, client in zip(tokens, clients):
        with client:
            client.expect(250)
            code, text = client.reply()
            assert code == 535 and text.startswith("5.7.8 "), (token, code, text)
            check_usable(client)
    check_unlogged(mta, *tokens)
