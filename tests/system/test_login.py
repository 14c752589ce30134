"""Logging in: each way that smtplib knows, what a user may send as, what the log tells and what it never tells."""

import os
import shutil
import ssl
import time

import pytest

from logins import Authority, plain, write_users
from mta import data, message, queued_id
from vendors import make_certificate

SECRET = "correct horse battery staple"


@pytest.fixture
def start(start_mta, certificate, tmp_path):
    write_users(tmp_path / "users", {"anna": (SECRET, ["anna@sender.example", "@shop.example"]), "bert": SECRET + "2"})

    def start(config=None, build=None, **listener):
        return start_mta({"users_file": "../users", "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])},
                          **(config or {})},
                         listener={"tls": "optional", "auth": "optional", "trusted": [], "cleartext_auth": "never", **listener},
                         build=build)

    return start


def under_tls(mta):
    client = mta.smtp()
    client.starttls(context=ssl._create_unverified_context())
    client.ehlo()
    return client


@pytest.mark.parametrize("mechanism", ["plain", "login"])
@pytest.mark.parametrize("initial", [True, False])
def test_mechanisms(start, start_peer, to_peer, mechanism, initial):
    peer = start_peer()
    mta = start(to_peer(peer), trace_client=True)
    with under_tls(mta) as client:
        client.user, client.password = "anna", SECRET
        code, text = client.auth(mechanism.upper(), getattr(client, "auth_" + mechanism), initial_response_ok=initial)
        assert code == 235, text
        assert client.docmd("AUTH PLAIN " + plain("anna", SECRET))[0] == 503
        assert client.mail("anna@sender.example")[0] == 250
        assert client.docmd("AUTH PLAIN " + plain("anna", SECRET))[0] == 503
        assert client.rcpt("bert@dest.example")[0] == 250
        identity = queued_id(*data(client, message()))
    assert mta.wait_event("accept", id=identity)["user"] == "anna"
    peer.wait_for(lambda record: record.messages)
    received = peer.messages[0].header("Received")
    assert " with ESMTPSA " in received and "(user anna)" in received
    mta.stop()
    assert SECRET not in mta.log() and plain("anna", SECRET) not in mta.log()


def memory_of(pid):
    """All that a process could write to, piece by piece."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            where, mode = line.split()[:2]
            if mode.startswith("rw"):
                begin, end = (int(part, 16) for part in where.split("-"))
                mem.seek(begin)
                yield mem.read(end - begin)


@pytest.mark.parametrize("tls", [False, True])
def test_no_password_stays_in_memory(start, tls):
    mta = start(build="release", cleartext_auth="loopback")
    wrong = os.urandom(16).hex()
    clients = [under_tls(mta) if tls else mta.smtp() for _ in range(4)]
    for client, password in zip(clients, (SECRET, wrong, SECRET, wrong)):
        client.ehlo()
        line = b"AUTH PLAIN " + plain("anna", password).encode() + b"\r\n"
        cut = 30 if client in clients[2:] else 0  # in one segment, and in two
        if cut:
            client.sock.sendall(line[:cut])
            time.sleep(0.1)
        client.sock.sendall(line[cut:])
        assert client.getreply()[0] == (235 if password == SECRET else 535)
    # ends alone as well: later lines overwrite how a copy begins
    needles = [text.encode() for secret in (SECRET, wrong)
               for text in (secret, secret[-16:], plain("anna", secret)[-40:], plain("anna", secret)[-20:])]
    for piece in memory_of(mta.process.pid):
        assert not [needle for needle in needles if needle in piece]
    for client in clients:
        client.close()


def test_allowed_senders(start):
    mta = start()
    with under_tls(mta) as client:
        assert client.login("anna", SECRET)[0] == 235
        for sender, code in (("ANNA@Sender.Example", 250), ("any@shop.example", 250), ("", 250), ("ceo@sender.example", 553)):
            assert client.docmd(f"MAIL FROM:<{sender}>")[0] == code, sender
            client.rset()
        code, text = client.docmd("MAIL FROM:<ceo@sender.example>")
        assert text == (b"5.7.1 anna may not send as <ceo@sender.example>, but as anna@sender.example, @shop.example: set the "
                        b"sender (MAIL FROM) of your application to that, or ask the mail admin for more")
        for sender in ("", "anna@sender.example"):  # From is held to it too: people read it, and DKIM vouches for it
            assert client.docmd(f"MAIL FROM:<{sender}>")[0] == 250
            assert client.rcpt("bert@dest.example")[0] == 250
            code, text = data(client, message(sender="ceo@sender.example"))
            assert code == 554 and text.startswith(b"5.7.1 anna may not send as <ceo@sender.example>, but as "), text
        assert client.docmd("MAIL FROM:<>")[0] == 250  # nor is she the mail system itself
        assert client.rcpt("bert@dest.example")[0] == 250
        code, text = data(client, b"Subject: x\r\n\r\nbody\r\n")
        assert code == 554 and text.startswith(b"5.7.1 anna may not send as <MAILER-DAEMON@mta.sender.example>, but as "), text
    assert mta.wait_event("reject", code=553)["user"] == "anna"
    assert mta.queued() == 0
    with under_tls(mta) as client:
        assert client.login("bert", SECRET + "2")[0] == 235
        assert client.mail("anybody@anywhere.example")[0] == 250


def test_wrong_password(start):
    mta = start()
    with under_tls(mta) as client:
        for name, password in (("anna", "guess-1"), ("hunter2", "guess-2")):
            code, text = client.docmd("AUTH PLAIN " + plain(name, password))
            assert code == 535 and text.startswith(b"5.7.8 ")
        assert client.mail("anna@sender.example")[0] == 530
        assert client.docmd("AUTH PLAIN !!!!")[0] == 501
        assert client.docmd("AUTH LOGIN")[0] == 334
        assert client.docmd("*")[0] == 501
        assert client.docmd("AUTH PLAIN " + plain("anna", SECRET))[0] == 235
        assert client.mail("anna@sender.example")[0] == 250
    mta.stop()
    wrong = mta.events("reject", code=535)
    assert [event.get("user") for event in wrong] == ["anna", None]
    assert "guess" not in mta.log() and "hunter2" not in mta.log()  # a name that nobody has may be a password


def test_client_leaves_while_it_waits(start):
    mta = start()
    for _ in range(3):
        client = under_tls(mta)
        client.send("AUTH PLAIN " + plain("anna", "wrong") + "\r\n")
        client.close()
    mta.wait_event("reject", 3, stage="auth", address="127.0.0.1")
    with under_tls(mta) as client:
        assert client.login("bert", SECRET + "2")[0] == 235


def test_tls_forgets_the_login(start):
    mta = start(cleartext_auth="loopback")
    with mta.smtp() as client:
        client.ehlo()
        assert client.login("anna", SECRET)[0] == 235
        assert client.mail("anna@sender.example")[0] == 250
        client.rset()
        client.starttls(context=ssl._create_unverified_context())
        client.ehlo()
        assert client.mail("anna@sender.example")[0] == 530
        assert client.login("anna", SECRET)[0] == 235
        assert client.mail("anna@sender.example")[0] == 250


def test_users_and_certificates_change(start, tmp_path, certificate):
    mta = start()
    write_users(mta.folder.parent / "users", {"carla": "new"})
    with under_tls(mta) as client, under_tls(mta) as removed:
        assert client.login("carla", "new")[0] == 235
        code, _ = client.mail("carla@anywhere.example")
        assert code == 250
        assert removed.login("carla", "new")[0] == 235
        assert removed.mail("carla@anywhere.example")[0] == 250
        write_users(mta.folder.parent / "users", {"dora": "other"})
        for _ in range(100):  # the file is looked at behind each question
            removed.docmd("RSET")
            code, text = removed.docmd("MAIL FROM:<carla@anywhere.example>")
            if code == 421:
                break
            assert code == 250
            time.sleep(0.05)
        assert code == 421 and text.startswith(b"4.7.0 The login of this connection holds no more"), text
        write_users(mta.folder.parent / "users", {"carla": "new"})
    fresh = make_certificate(tmp_path / "fresh", "fresh.example")
    own = tmp_path / "own"
    own.mkdir()
    for name, source in (("cert.pem", certificate[0]), ("key.pem", certificate[1])):
        shutil.copy(source, own / name)
    mta.write_config({"tls": {"certificate": str(own / "cert.pem"), "key": str(own / "key.pem")}})
    assert mta.ctl_run("reload").returncode == 0
    with under_tls(mta) as old:
        for source, name in zip(fresh, ("cert.pem", "key.pem")):
            shutil.copy(source, own / name)
        assert mta.ctl_run("reload").returncode == 0
        assert old.noop()[0] == 250  # sessions go on
    with under_tls(mta) as client:
        shown = client.sock.getpeercert(binary_form=True)
    assert shown == ssl.PEM_cert_to_DER_cert(fresh[0].read_text())
    (mta.folder.parent / "users").write_text("not a users file\n")
    done = mta.ctl_run("reload")
    assert done.returncode == 1 and b"users:1: " in done.stdout + done.stderr
    with under_tls(mta) as client:
        assert client.login("carla", "new")[0] == 235


def test_client_certificates(start, tmp_path):
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    mta = start(client_ca=str(ours.certificate), trusted_names=["*.mta.example"], auth="off", role="relay")
    cases = [
        (ours.sign("relay.mta.example"), 250),
        (ours.sign("relay.other.example"), 554),
        (ours.sign("server.mta.example", usage="serverAuth"), 250),  # all that public authorities give MTAs
        (ours.sign("mail.mta.example", usage="emailProtection"), 554),
        (others.sign("relay.mta.example"), 554),
        (None, 554),
    ]
    for shown, wanted in cases:
        context = ssl._create_unverified_context()
        if shown:
            context.load_cert_chain(*shown)
        with mta.smtp() as client:
            client.ehlo()
            assert client.mail("anna@sender.example")[0] == 554  # no certificate in clear
            client.starttls(context=context)
            client.ehlo()
            code, text = client.mail("anna@sender.example")
            assert code == wanted, (shown, text)
            assert wanted == 250 or b"has shown no trusted certificate" in text
