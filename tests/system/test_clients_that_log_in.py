"""Clients of other vendors log in, over each mode of TLS and each mechanism that they know, and hand in one message.

Each runs as its users run it. What counts is what mtad says: which user, under TLS or not, and what the peer got.
"""

import os
import smtplib
import ssl
import subprocess
import time

import pytest

from logins import Authority, write_users
from mta import Mta, free_port, message
from peer import Peer
from vendors import ROOT, environment, program

USER, SECRET = "anna", "pa ss:w'o\"r\\d%"  # what needs care in one client or another
SENDER, RECIPIENT = "anna@sender.example", "bert@dest.example"


class Server:
    """One mtad: STARTTLS, implicit TLS, and clear text; a login is required everywhere."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder / "ca")
        certificate, key = self.authority.sign("localhost")
        self.client = self.authority.sign("client.mta.example")
        write_users(folder / "users", {USER: (SECRET, [SENDER]), "client.mta.example": SECRET})
        self.peer = Peer()
        self.ports = {"starttls": free_port(), "implicit": free_port(), "clear": free_port()}
        tls = {"starttls": "required", "implicit": "implicit", "clear": "off"}
        self.mta = Mta(folder, {
            "routes": [{"to": [f"{self.peer.address}:{self.peer.port}"], "tls": "opportunistic"}],
            "users_file": str(folder / "users"), "tls": {"certificate": str(certificate), "key": str(key)},
            "listeners": [{"address": f"127.0.0.1:{port}", "auth": "required", "tls": tls[mode],
                           **({"client_ca": str(self.authority.certificate)} if mode != "clear" else {})}
                          for mode, port in self.ports.items()],
        }, port=self.ports["clear"]).start()

    def stop(self):
        self.mta.stop()
        self.peer.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("clients"))
    yield made
    made.stop()


def run(command, content=None, env=None):
    done = subprocess.run(command, input=content, capture_output=True, timeout=60, env=env)
    assert done.returncode == 0, (command, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def by_smtplib(server, mode, mechanism, content):
    context = ssl.create_default_context(cafile=str(server.authority.certificate))
    port = server.ports[mode]
    with smtplib.SMTP_SSL("localhost", port, timeout=30, context=context) if mode == "implicit" else smtplib.SMTP(
            "localhost", port, timeout=30) as client:
        if mode == "starttls":
            client.starttls(context=context)
        client.ehlo()
        client.user, client.password = USER, SECRET
        assert client.auth(mechanism, getattr(client, "auth_" + mechanism.lower()))[0] == 235
        client.sendmail(SENDER, [RECIPIENT], content)


def by_swaks(server, mode, mechanism, content):
    tls = {"starttls": ["--tls"], "implicit": ["--tlsc"], "clear": []}[mode]
    mail = server.folder / "mail"
    mail.write_bytes(content)
    run(["swaks", "--server", "127.0.0.1", "--port", str(server.ports[mode]), *tls, "--ehlo", "client.sender.example",
         "--from", SENDER, "--to", RECIPIENT, "--auth", mechanism, "--auth-user", USER, "--auth-password", SECRET,
         "--data", f"@{mail}"])


def by_msmtp(server, mode, mechanism, content):
    options = [f"--host={'localhost' if mode != 'clear' else '127.0.0.1'}", f"--port={server.ports[mode]}", f"--from={SENDER}",
               f"--auth={mechanism.lower()}", "--domain=client.sender.example", "--file=/dev/null"]
    if mode == "clear":
        options.append("--tls=off")
    else:
        options += ["--tls=on", f"--tls-starttls={'on' if mode == 'starttls' else 'off'}",
                    f"--tls-trust-file={server.authority.certificate}"]
    if mechanism == "EXTERNAL":
        options += ["--user=client.mta.example", f"--tls-cert-file={server.client[0]}", f"--tls-key-file={server.client[1]}"]
    else:
        options += [f"--user={USER}", f"--passwordeval=cat {server.folder}/password"]
    (server.folder / "password").write_text(SECRET)
    run(["msmtp", *options, RECIPIENT], content.replace(b"\r\n", b"\n"))


def by_curl(server, mode, mechanism, content):
    mail = server.folder / "mail"
    mail.write_bytes(content)
    scheme = "smtps" if mode == "implicit" else "smtp"
    who = ["--user", f"{USER}:{SECRET}"]
    if mechanism == "EXTERNAL":
        who = ["--user", "client.mta.example:", "--cert", str(server.client[0]), "--key", str(server.client[1])]
    run(["curl", "--silent", "--show-error", "--fail", *(["--ssl-reqd"] if mode == "starttls" else []), "--cacert",
         str(server.authority.certificate), f"{scheme}://localhost:{server.ports[mode]}/client.sender.example", *who,
         "--login-options", f"AUTH={mechanism}", "--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(mail)])


NODE = """
const [mode, mechanism, port, user, pass, from, to, ca] = process.argv.slice(1);
const transport = require("nodemailer").createTransport({
  host: "127.0.0.1", port: +port, secure: mode === "implicit", requireTLS: mode === "starttls",
  ignoreTLS: mode === "clear", authMethod: mechanism, auth: {user, pass}, 
  tls: {servername: "localhost", ca: require("fs").readFileSync(ca)}});
transport.sendMail({envelope: {from, to: [to]}, raw: require("fs").readFileSync(0)}).then(
  () => process.exit(0), error => { console.error(error); process.exit(1); });
"""


def by_nodemailer(server, mode, mechanism, content):
    run(["node", "-e", NODE, mode, mechanism, str(server.ports[mode]), USER, SECRET, SENDER, RECIPIENT,
         str(server.authority.certificate)], content, dict(os.environ, NODE_PATH=f"{ROOT}/usr/share/nodejs"))


PERL = """
use strict; use Net::SMTP; use Authen::SASL;
my ($mode, $mechanism, $port, $user, $secret, $from, $to, $ca) = @ARGV;
my @tls = (SSL_ca_file => $ca);
my $smtp = Net::SMTP->new("localhost", Port => $port, Hello => "client.sender.example", Timeout => 30,
                          $mode eq "implicit" ? (SSL => 1, @tls) : ()) or die "connect: $@";
$mode ne "starttls" or $smtp->starttls(@tls) or die "starttls: $@";
my $sasl = Authen::SASL->new(mechanism => $mechanism, callback => {user => $user, pass => $secret, authname => ""});
$smtp->auth($sasl) or die "auth: " . $smtp->message;
my $content = do { local $/; <STDIN> };
$smtp->mail($from) && $smtp->to($to) && $smtp->data($content) or die "mail: " . $smtp->message;
$smtp->quit;
"""


def by_perl(server, mode, mechanism, content):
    run(["perl", "-e", PERL, mode, mechanism, str(server.ports[mode]), USER, SECRET, SENDER, RECIPIENT,
         str(server.authority.certificate)], content.replace(b"\r\n", b"\n"),
        dict(os.environ, PERL5LIB=f"{ROOT}/usr/share/perl5"))


CLIENTS = {
    "smtplib": (by_smtplib, ["PLAIN", "LOGIN"]),
    "swaks": (by_swaks, ["PLAIN", "LOGIN"]),
    "msmtp": (by_msmtp, ["PLAIN", "LOGIN", "SCRAM-SHA-256", "EXTERNAL"]),
    "curl": (by_curl, ["PLAIN", "LOGIN", "EXTERNAL"]),
    "nodemailer": (by_nodemailer, ["PLAIN", "LOGIN"]),
    "perl": (by_perl, ["PLAIN", "LOGIN"]),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_client(server, client):
    send, mechanisms = CLIENTS[client]
    for mechanism in mechanisms:
        for mode in ("starttls", "implicit", "clear"):
            if mechanism == "EXTERNAL" and mode == "clear":
                continue
            key = f"{client}-{mechanism}-{mode}-{time.time_ns()}"
            count = len(server.mta.events("accept"))
            send(server, mode, mechanism, message(X_Test_Id=key))
            accept = server.mta.wait_event("accept", count + 1)
            assert accept["user"] == ("client.mta.example" if mechanism == "EXTERNAL" else USER), key
            assert accept["sender"] == SENDER and accept["recipient"] == RECIPIENT
            assert ("tls" in accept) == (mode != "clear"), key
            server.peer.wait_for(lambda record: any(got.header("X-Test-Id") == key for got in record.messages))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"])
def test_gsasl(server, mechanism):
    """It logs in and says whether the server proved itself; it sends no mail."""
    external = mechanism == "EXTERNAL"
    command = [program("usr/bin/gsasl"), "--smtp", "--connect", f"localhost:{server.ports['starttls']}", "--mechanism", mechanism,
               "--authentication-id", USER, "--authorization-id", "client.mta.example" if external else "", "--password", SECRET,
               "--x509-ca-file", str(server.authority.certificate), "--verbose", "--quiet"]
    if mechanism == "SCRAM-SHA-256":
        command.append("--no-cb")  # else it says that the server has no channel bindings, and is refused (RFC 5802 section 6)
    if external:
        command += ["--x509-cert-file", str(server.client[0]), "--x509-key-file", str(server.client[1])]
    said = run(command, b"", environment())
    assert "235 2.7.0" in said or "Client authentication finished" in said, said
