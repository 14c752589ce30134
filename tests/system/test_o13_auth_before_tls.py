"""Case O13: AUTH is neither shown nor taken before TLS, whether the password is right or not; the one exception are
programs of this machine, where cleartext_auth says so."""

import pytest

import net
from logins import plain, write_users
from rawclient import Door, Raw

GOOD = plain("anna", "secret pass phrase")
HERE, NETWORK = "127.0.0.1", "192.0.2.1"


def keywords(client):
    return [line.split()[0] for line in client.command("EHLO client.sender.example", 250).split("\n")[1:]]


def check_closed(client):
    """No password gets in, and no client is asked for one."""
    assert "AUTH" not in keywords(client)
    for line in ("AUTH PLAIN " + GOOD, "AUTH PLAIN", "AUTH LOGIN", "AUTH LOGIN YW5uYQ==", "AUTH NTLM", "AUTH"):
        client.command(line, 538, "5.7.11")
        client.command("NOOP", 250)  # a command: the line was not taken for a response
    client.command(GOOD, 500)
    client.command("MAIL FROM:<anna@sender.example>", 530, "5.7.0")


def check_open(client):
    assert "AUTH" in keywords(client)
    client.command("MAIL FROM:<anna@sender.example>", 530, "5.7.0")
    client.command("AUTH PLAIN " + GOOD, 235)
    client.command("MAIL FROM:<anna@sender.example>", 250)


@pytest.fixture
def doors(start_mta, certificate, closing, tmp_path):
    """(mta, door): door(name, address) is what a client connects to, from that same address."""
    host = closing(net.Host("mta"))
    host.run("ip", "address", "add", NETWORK + "/32", "dev", "lo")
    listeners = {"optional": {"tls": "optional", "cleartext_auth": "never"}, "loopback": {"tls": "optional"},
                 "required": {"tls": "required"}, "implicit": {"tls": "implicit"}}
    ports = {name: 2001 + number for number, name in enumerate(listeners)}
    users = write_users(tmp_path / "users", {"anna": "secret pass phrase"})
    mta = start_mta({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}, "users_file": str(users),
                     "log": {"level": "debug"},
                     "listeners": [{"address": [f"{HERE}:{ports[name]}", f"{NETWORK}:{ports[name]}"], "trusted": [],
                                    "auth": "required", **listener} for name, listener in listeners.items()]},
                    host=host, port=ports["optional"])
    with host.entered():
        yield mta, lambda name, address: Door((address, ports[name]), address)


def test_auth_before_tls(doors):
    mta, door = doors
    for name, address in (("optional", HERE), ("optional", NETWORK), ("loopback", NETWORK), ("required", HERE),
                          ("required", NETWORK)):
        with Raw(door(name, address)) as client:
            client.command("AUTH PLAIN " + GOOD, 503)  # EHLO first
            check_closed(client)
            assert "STARTTLS" in keywords(client)
            client.starttls()
            client.command("AUTH PLAIN " + GOOD, 503)
            assert "STARTTLS" not in keywords(client)
            check_open(client)
    for address in (HERE, NETWORK):
        with Raw(door("implicit", address), greet=False) as client:
            client.handshake()
            client.expect(220)
            assert "STARTTLS" not in keywords(client)
            check_open(client)
    with Raw(door("loopback", HERE)) as client:  # the exception, and TLS forgets it
        check_open(client)
        client.starttls()
        check_open(client)
    assert GOOD not in mta.log() and "secret pass phrase" not in mta.log()
