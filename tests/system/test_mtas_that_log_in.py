"""Other MTAs hand in through mtad as their users configure them: Postfix with SASL, Exim with AUTH, over each mode of TLS;
and one Postfix that is known by its certificate alone."""

import smtplib
import socket
import time

import pytest

import vendors
from logins import Authority, write_users
from mta import message
from world import MTA4

SENDER, RECIPIENT = "anna@sender.example", "bert@dest.example"
PORTS = {"starttls": 587, "implicit": 465, "certificate": 25}


@pytest.fixture
def server(world, start_mta, tmp_path):
    """mtad in the world: a login is required on 587 and 465; on 25 a client certificate opens the door."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("mta.sender.example")
    write_users(tmp_path / "users", {"relay": ("secret", ["@sender.example"])})
    common = {"trusted": []}
    mta = start_mta(world.config(
        tls={"certificate": str(certificate), "key": str(key)}, users_file=str(tmp_path / "users"),
        listeners=[{"address": f"{MTA4}:587", "tls": "required", "auth": "required", **common},
                   {"address": f"{MTA4}:465", "tls": "implicit", "auth": "required", **common},
                   {"address": f"{MTA4}:25", "tls": "required", "auth": "off", "role": "relay", **common,
                    "client_ca": str(authority.certificate), "trusted_names": ["*.relays.example"]}]),
        host=world.mta, address=MTA4, port=587)
    mta.authority = authority
    return mta


def expect(world, mta, key, user):
    accept = mta.wait_event("accept", sender=SENDER)
    assert accept.get("user") == user and accept["tls"].startswith("TLS1.3")
    end = time.monotonic() + 20
    while not any(key.encode() in content for content in world.dest.mailbox("bert")):
        assert time.monotonic() < end, mta.log()
        time.sleep(0.05)
    mta.wait_empty()


@pytest.fixture(scope="module")
def client_host(world):
    """A new machine each time: (Host, its address)."""
    return ((world.net.host(f"client{i}", f"203.0.113.{i}", contained=True), f"203.0.113.{i}") for i in range(1, 100))


@pytest.mark.parametrize("mode", PORTS)
def test_postfix(world, server, client_host, tmp_path, mode):
    ca = server.authority.certificate
    more = f"relayhost = [{MTA4}]:{PORTS[mode]}\nmynetworks = 203.0.113.0/24\nsmtpd_relay_restrictions = permit_mynetworks, reject\n" \
           f"smtp_tls_CAfile = {ca}\nsmtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = mta.sender.example\n"
    if mode == "certificate":
        certificate, key = server.authority.sign("one.relays.example")
        more += f"smtp_tls_cert_file = {certificate}\nsmtp_tls_key_file = {key}\n"
    else:
        (tmp_path / "sasl").write_text(f"[{MTA4}]:{PORTS[mode]} relay:secret\n")
        more += f"smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\nsmtp_sasl_password_maps = texthash:{tmp_path}/sasl\n"
        more += "smtp_tls_wrappermode = yes\n" if mode == "implicit" else ""
    host, address = next(client_host)
    postfix = vendors.Postfix(host, [address], "one.relays.example", "unused.example", [], tmp_path / "postfix", more=more)
    key = f"postfix-{mode}-{time.time_ns()}"
    with host.entered():
        sock = socket.create_connection((address, 25), 20)
    session = smtplib.SMTP(timeout=20, local_hostname="client.sender.example")
    session._get_socket = lambda *unused: sock
    session.connect(address, 25)
    session.sendmail(SENDER, [RECIPIENT], message(X_Test_Id=key))
    session.quit()
    try:
        expect(world, server, key, None if mode == "certificate" else "relay")
    except AssertionError as failure:
        raise AssertionError(postfix.log()) from failure


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_exim(world, server, client_host, tmp_path, mode):
    transport = [f"port = {PORTS[mode]}", "hosts_require_auth = *", "hosts_require_tls = *", "tls_verify_hosts = *",
                 f"tls_verify_certificates = {server.authority.certificate}", "tls_verify_cert_hostnames ="]
    transport += ["protocol = smtps"] if mode == "implicit" else []
    exim = vendors.Exim(next(client_host)[0], "exim.relays.example", tmp_path / "exim", MTA4,
                        "\n".join("  " + line for line in transport),
                        "plain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^relay^secret\n")
    key = f"exim-{mode}-{time.time_ns()}"
    exim.hand_in(SENDER, RECIPIENT, message(X_Test_Id=key).replace(b"\r\n", b"\n"))
    try:
        expect(world, server, key, "relay")
    except AssertionError as failure:
        raise AssertionError(exim.log()) from failure
