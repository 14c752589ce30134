"""network x AUTH x TLS x cleartext_auth x role x login x sender: who has no right gets no message in, not a single one."""

import itertools
import socket
import ssl

from logins import plain, write_users
from mta import free_port

AUTH = ("off", "optional", "required")
TLS = ("off", "optional", "required", "implicit")
CLEARTEXT = ("never", "loopback")
ROLES = ("submission", "relay")
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.9"
CONTEXT = ssl._create_unverified_context()


class Client:
    def __init__(self, port, source):
        self.sock = socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))
        self.file = None

    def tls(self):
        self.sock = CONTEXT.wrap_socket(self.sock)

    def reply(self):
        text = b""
        while True:
            data = self.sock.recv(4096)
            assert data, text
            text += data
            lines = text.split(b"\r\n")
            if lines[-1] == b"" and lines[-2][3:4] == b" ":
                return int(lines[-2][:3]), text.decode()

    def ask(self, line):
        self.sock.sendall(line.encode() + b"\r\n")
        return self.reply()


def expected(listener, source, encrypted, logged_in, sender):
    """What MAIL gets. Written down from the promise, not from the code."""
    able = listener["auth"] != "off" and (
        encrypted or (listener["cleartext_auth"] == "loopback" and listener["tls"] != "required"))
    if listener["tls"] == "required" and not encrypted:
        return able, "530 5.7.0"
    logged_in = logged_in and able
    if not (logged_in or (source == TRUSTED and listener["auth"] != "required")):
        hope = listener["auth"] != "off" and (able or listener["tls"] != "off")
        return able, "530 5.7.0" if hope else "554 5.7.1"
    if logged_in and sender != "anna@sender.example":
        return able, "553 5.7.1"
    return able, "250 2.1.0"


def run_case(listener, source, encrypted, login, sender):
    able, wanted = expected(listener, source, encrypted, login, sender)
    client = Client(listener["port"], source)
    case = (listener, source, encrypted, login, sender)
    with client.sock:
        if listener["tls"] == "implicit":
            client.tls()
        assert client.reply()[0] == 220, case
        code, text = client.ask("EHLO client.sender.example")
        if encrypted and listener["tls"] != "implicit":
            assert client.ask("STARTTLS")[0] == 220, case
            client.tls()
            code, text = client.ask("EHLO client.sender.example")
        assert (" PLAIN" in text) == able, (case, text)
        if login:
            code, text = client.ask("AUTH PLAIN " + plain("anna", "secret"))
            assert code == 235 if able else code in (502, 538), (case, text)
        code, text = client.ask(f"MAIL FROM:<{sender}>")
        assert text.startswith(wanted), (case, wanted, text)
        accepted = wanted == "250 2.1.0"
        refused = 530 if listener["tls"] == "required" and not encrypted else 503
        assert client.ask("RCPT TO:<bert@dest.example>")[0] == (250 if accepted else refused), case
        if not accepted:
            assert client.ask("DATA")[0] == refused, case
            client.sock.sendall(b"BDAT 6 LAST\r\nX: y\r\n")
            assert client.reply()[0] == refused, case
    return accepted


def test_matrix(start_mta, certificate, tmp_path):
    write_users(tmp_path / "users", {"anna": ("secret", ["anna@sender.example"])})
    listeners = [{"auth": auth, "tls": tls, "cleartext_auth": cleartext, "role": role, "trusted": [TRUSTED],
                  "address": [f"127.0.0.1:{free_port()}"]}
                 for auth, tls, cleartext, role in itertools.product(AUTH, TLS, CLEARTEXT, ROLES)
                 if not (auth == "required" and tls == "off" and cleartext == "never")  # refused: nobody could log in
                 and not (role == "relay" and cleartext == "never")]
    mta = start_mta({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])},
                     "users_file": str(tmp_path / "users"), "listeners": listeners}, wait=False)
    mta.port = int(listeners[0]["address"][0].rsplit(":", 1)[1])
    mta.start()
    seen = set()
    for listener in listeners:
        listener["port"] = int(listener["address"][0].rsplit(":", 1)[1])
        for source, encrypted, login in itertools.product((TRUSTED, STRANGER), (False, True), (False, True)):
            if listener["tls"] == ("off" if encrypted else "implicit"):
                continue
            for sender in ("anna@sender.example", "eve@sender.example") if login else ("anna@sender.example",):
                seen.add(run_case(listener, source, encrypted, login, sender))
    assert seen == {True, False}
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
