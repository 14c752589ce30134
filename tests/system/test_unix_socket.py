"""Submission by a socket in the file system: who connects is known by his account."""

import os
import shutil
import smtplib
import socket
import stat
import subprocess
import tempfile

import pytest

from mta import data, message, queued_id


class UnixSmtp(smtplib.SMTP):
    def __init__(self, path):
        super().__init__(timeout=20, local_hostname="localhost")
        self.path = path
        assert self.connect("unix")[0] == 220

    def _get_socket(self, host, port, timeout):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(self.path)
        return sock


@pytest.fixture
def path():
    """Short, since a socket's address has 108 octets, and in a folder that is open to all accounts."""
    folder = tempfile.mkdtemp(prefix="mta-test-", dir="/tmp")
    os.chmod(folder, 0o755)
    yield f"{folder}/run/s"
    shutil.rmtree(folder)


BY_ANOTHER_ACCOUNT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
lines = sock.makefile("rb")
lines.readline()
sock.sendall(b"HELO x\\r\\nMAIL FROM:<daemon>\\r\\n")
lines.readline()
print(lines.readline())
"""


def start(start_mta, path, config=None, **listener):
    mta = start_mta(config, wait=False)
    first = mta.config["listeners"][0]
    mta.write_config({"listeners": [{**first, "address": [*first["address"], "unix:" + path], **listener}]})
    return mta


def test_account_is_the_user(start_mta, start_peer, to_peer, path):
    peer = start_peer()
    mta = start(start_mta, path, to_peer(peer), trusted=[]).start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    with UnixSmtp(path) as client:
        client.ehlo()
        assert client.mail("anna@sender.example")[0] == 250
        assert client.rcpt("bert@dest.example")[0] == 250
        identity = queued_id(*data(client, message()))
    accept = mta.wait_event("accept", id=identity)
    assert accept["user"] == "root" and accept["address"] == "unix"
    peer.wait_for(lambda record: record.messages)
    assert peer.messages[0].header("Received").startswith("by mta.sender.example with ESMTP id")
    with mta.smtp() as client:  # the network is not trusted by this
        client.ehlo()
        assert client.mail("anna@sender.example")[0] == 554
    done = subprocess.run(["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "/usr/bin/python3", "-I", "-c",
                           BY_ANOTHER_ACCOUNT, path], capture_output=True, timeout=30, cwd="/")
    assert b"250 2.1.0" in done.stdout, done
    mta.wait_event("connect", user="daemon")
    mta.stop()
    assert not os.path.exists(path)


def test_who_may_be_replaced(start_mta, path):
    os.mkdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(path)
    mta = start(start_mta, path).start()  # nobody listens there
    second = start(start_mta, path)
    code, text = second.run_once()
    assert code == 1 and path in text and "another program listens there" in text
    with UnixSmtp(path) as client:
        assert client.noop()[0] == 250
    os.unlink(path)
    with open(path, "w", encoding="ascii") as file:
        file.write("not ours")
    mta.stop()
    with open(path, encoding="ascii") as file:
        assert file.read() == "not ours"
    code, text = second.run_once()
    assert code == 1 and "a file that is no socket" in text


@pytest.mark.parametrize("tls", ["required", "implicit"])
def test_no_tls_is_demanded(start_mta, certificate, path, tls):
    """What does not leave the machine needs none: sendmail programs know nothing of it."""
    mta = start(start_mta, path, {"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}}, tls=tls)
    mta.spawn()
    mta.wait_event("start")
    with UnixSmtp(path) as client:
        client.ehlo()
        assert client.mail("anna@sender.example")[0] == 250


def test_required_login_and_reload(start_mta, path, tmp_path):
    from logins import write_users
    write_users(tmp_path / "users", {"anna": "secret"})
    mta = start(start_mta, path, {"users_file": str(tmp_path / "users")}, auth="required").start()
    with UnixSmtp(path) as client:
        client.ehlo()
        assert client.mail("anna@sender.example") == (530, b"5.7.0 Authentication required: use AUTH before MAIL")
        assert client.login("anna", "secret")[0] == 235
        assert client.mail("anna@sender.example")[0] == 250
    assert mta.ctl_run("reload").returncode == 0
    first = mta.config["listeners"][0]
    mta.write_config({"listeners": [{**first, "address": [*first["address"][:-1], "unix:" + path + "2"]}]})
    done = mta.ctl_run("reload")
    assert done.returncode == 1 and b"only by a restart" in done.stdout + done.stderr
    with UnixSmtp(path) as client:
        assert client.noop()[0] == 250
