"""network x AUTH x TLS x cleartext_auth x role x login x certificate x sender: who has no right gets no message in, not a
single one."""

import collections
import itertools
import os
import pathlib
import ssl

import pytest

import net
from logins import Authority, plain, write_users
from rawclient import Door, Raw

AUTH = ("off", "optional", "required")
TLS = ("off", "optional", "required", "implicit")
CLEARTEXT = ("never", "loopback")
ROLES = ("submission", "relay")
Client = collections.namedtuple("Client", "address trusted local certificate")
CLIENTS = {
    "this machine": Client("127.0.0.1", True, True, None),
    "this machine, not trusted": Client("127.0.0.9", False, True, None),
    "network": Client("192.0.2.1", True, False, None),
    "stranger": Client("198.51.100.1", False, False, None),
    "IPv6 network": Client("2001:db8::1", True, False, None),
    "IPv6 stranger": Client("2001:db8:1::1", False, False, None),
    "socket": Client(None, True, True, None),  # who may open it is the file system's matter
    "MTA with a trusted name": Client("198.51.100.1", False, False, "relay.mta.example"),
    "MTA with another name": Client("198.51.100.1", False, False, "relay.other.example"),
}
OWN, OTHER, NOBODY = "anna@sender.example", "eve@sender.example", ""


# What must be. Written down from the promise, not from the code.

def may_log_in(listener, client, encrypted):
    in_clear = listener["cleartext_auth"] == "loopback" and client.local
    tls_first = listener["tls"] == "required" and client.address
    return listener["auth"] != "off" and (encrypted or (in_clear and not tls_first))


def expected(listener, client, encrypted, logged_in, sender):
    """The reply to MAIL."""
    if listener["tls"] == "required" and client.address and not encrypted:
        return "530 5.7.0"
    known = client.trusted or (encrypted and client.certificate == "relay.mta.example")
    if not (logged_in or (known and listener["auth"] != "required")):
        hope = listener["auth"] != "off" and (listener["tls"] != "off" or may_log_in(listener, client, encrypted))
        return "530 5.7.0" if hope else "554 5.7.1"
    return "553 5.7.1" if logged_in and sender == OTHER else "250 2.1.0"


class Case:
    """One client at one listener: one session, in clear and under TLS."""

    def __init__(self, listener, name):
        self.listener, self.client = listener, CLIENTS[name]
        self.about = (listener["auth"], listener["tls"], listener["cleartext_auth"], listener["role"], name)
        self.raw = None
        self.seen = set()  # the replies to MAIL

    def run(self, context):
        address, tls = self.client.address, self.listener["tls"]
        implicit = tls == "implicit" and address
        with Raw(Door((address, self.listener["port"]) if address else self.listener["path"], address), greet=False) as self.raw:
            if implicit:
                self.raw.handshake(context)
            self.raw.expect(220)
            if not implicit:
                self.try_all(encrypted=False, senders=(OWN, NOBODY))
            if tls != "off" and address:
                if not implicit:
                    self.raw.starttls(context)
                self.try_all(encrypted=True, senders=(NOBODY,))
        return self.seen

    def try_all(self, encrypted, senders):
        """Everything at this level of TLS, before and after a login, in one segment: the replies are known beforehand. Five
        refusals of MAIL are allowed in a session."""
        able = may_log_in(self.listener, self.client, encrypted)
        steps = [("EHLO client.sender.example", "250 ")]
        for sender in senders:
            steps += self.mail(encrypted, False, sender)
        later = not encrypted and self.listener["auth"] != "off" and self.listener["tls"] != "off"
        steps.append(("AUTH PLAIN " + plain("anna", "secret"), "235 " if able else "538 " if later else "502 "))
        for sender in (OWN, OTHER, NOBODY) if able else (OWN,):
            steps += self.mail(encrypted, able, sender)
        self.raw.send("".join(line + "\r\n" for line, _ in steps).encode())
        for number, (line, wanted) in enumerate(steps):
            got = "{} {}".format(*self.raw.reply())
            assert got.startswith(wanted), (self.about, encrypted, steps[:number + 1], got)
            if number == 0:
                assert (" PLAIN" in got) == able, (self.about, encrypted, got)

    def mail(self, encrypted, logged_in, sender):
        """[(line, reply)] of a transaction that goes as far as it may, but for content."""
        wanted = expected(self.listener, self.client, encrypted, logged_in, sender)
        self.seen.add(wanted)
        steps = [(f"MAIL FROM:<{sender}>", wanted)]
        if wanted.startswith("250"):
            steps += [("RCPT TO:<bert@dest.example>", "250 "), ("RSET", "250 ")]
        elif sender == OWN:
            refused = "530 " if self.listener["tls"] == "required" and self.client.address and not encrypted else "503 "
            steps += [("RCPT TO:<bert@dest.example>", refused), ("DATA", refused), ("BDAT 6 LAST\r\nX: y", refused)]
        return steps


def tls_context(authority, name):
    context = ssl._create_unverified_context()
    if name:
        context.load_cert_chain(*authority.sign(name))
    return context


@pytest.fixture
def short(tmp_path):
    """A socket's address has 108 octets."""
    link = pathlib.Path(f"/tmp/mta-test-{os.getpid()}")
    link.symlink_to(tmp_path)
    yield link
    link.unlink()


def test_matrix(start_mta, certificate, closing, tmp_path, short):
    """Without sanitizers, since it is some 400 sessions; the same code runs with them in test_login.py and others."""
    write_users(tmp_path / "users", {"anna": ("secret", [OWN])})
    authority = Authority(tmp_path / "ca")
    contexts = {name: tls_context(authority, name) for name in {client.certificate for client in CLIENTS.values()}}
    host = closing(net.Host("mta"))
    for address in {client.address for client in CLIENTS.values() if client.address and not client.address.startswith("127.")}:
        host.run("ip", "address", "add", address + ("/128" if ":" in address else "/32"), "dev", "lo")
    listeners = []
    for number, (auth, tls, cleartext, role) in enumerate(itertools.product(AUTH, TLS, CLEARTEXT, ROLES)):
        if auth == "required" and tls == "off" and cleartext == "never":
            continue  # refused: nobody could log in
        listener = {"auth": auth, "tls": tls, "cleartext_auth": cleartext, "role": role,
                    "trusted": ["127.0.0.1", "192.0.2.0/24", "2001:db8::/48"], "port": 2000 + number, "path": f"{short}/{number}"}
        if tls != "off":
            listener.update(client_ca=str(authority.certificate), trusted_names=["*.mta.example"])
        listeners.append(listener)
    mta = start_mta({
        "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}, "users_file": str(tmp_path / "users"),
        "listeners": [{**{key: value for key, value in listener.items() if key not in ("port", "path")},
                       "address": [f"0.0.0.0:{listener['port']}", f"[::]:{listener['port']}", f"unix:{listener['path']}"]}
                      for listener in listeners]}, build="release", host=host, port=listeners[0]["port"])
    seen = set()
    with host.entered():
        for listener, (name, client) in itertools.product(listeners, CLIENTS.items()):
            if not (client.certificate and listener["tls"] == "off"):
                seen |= Case(listener, name).run(contexts[client.certificate])
    assert seen == {"250 2.1.0", "530 5.7.0", "553 5.7.1", "554 5.7.1"}
    assert mta.queued() == 0 and not mta.events("accept")


def test_no_certificate_and_no_users(start_mta):
    """optional without what it needs: neither STARTTLS nor AUTH is announced, and no hope of a login is given."""
    mta = start_mta(listener={"tls": "optional", "auth": "optional", "trusted": []})
    with mta.smtp() as client:
        code, text = client.ehlo()
        assert code == 250 and b"AUTH" not in text and b"STARTTLS" not in text
        code, text = client.docmd("AUTH PLAIN " + plain("anna", "secret"))
        assert code == 502
        code, text = client.mail("anna@sender.example")
        assert code == 554 and text.startswith(b"5.7.1 Relaying denied: 127.0.0.1 is not among the trusted networks")
        code, text = client.docmd("MAIL FROM:<anna>")
        assert code == 553 and text.startswith(b"5.1.3 ")


def test_nobody_could_log_in(start_mta, tmp_path):
    write_users(tmp_path / "users", {"anna": "secret"})
    mta = start_mta({"users_file": str(tmp_path / "users")}, listener={"auth": "required", "cleartext_auth": "never"}, wait=False)
    code, text = mta.run_once("--check")
    assert code == 2 and "listeners.auth: required and nobody could log in" in text
    mta.write_config({"users_file": str(tmp_path / "absent"), "listeners": [dict(mta.config["listeners"][0], auth="optional")]})
    code, text = mta.run_once("--check")
    assert code == 2 and "absent" in text
