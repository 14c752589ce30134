"""`sh mta/quickstart.sh` in a fresh copy of the tree: it builds, and a message goes the whole way; a second run takes
seconds; what it advises works; a taken port and foreign processes are left alone; it stops what it started."""

import email
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time

import dkim
import pytest

from mta import ROOT

pytestmark = pytest.mark.heavy
AS_NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")


class Quickstart:
    """A tree with the script, and a sandbox folder of its own."""

    def __init__(self, tree, box, prefix=()):
        self.tree, self.box, self.prefix = tree, box, prefix
        self.config = box / "mta.yaml"

    def run(self, *arguments, expect=0):
        done = subprocess.run([*self.prefix, "env", f"MTA_SANDBOX={self.box}", "sh", str(self.tree / "mta/quickstart.sh"),
                               *arguments], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=280)
        text = done.stdout.decode()
        assert done.returncode == expect, text
        return text

    def pid(self, name):
        return int((self.box / f"{name}.pid").read_text().split()[0])

    def advised(self, text, first):
        """Run by the shell what the guide advises: the alias, and the lines from the one that begins with `first`."""
        alias = re.search(r"^ *alias .*$", text, re.MULTILINE)[0]
        lines = text[text.index(f"   {first}"):]
        command = re.match(r"(?:.*\\\n)*.*\n", lines)[0]
        return subprocess.run(["sh", "-c", f"{alias}\n{command}"], check=True, capture_output=True, timeout=20).stdout.decode()

    def wait_mail(self, count, seconds=20):
        end = time.monotonic() + seconds
        while len(list(self.box.glob("mailbox/*.eml"))) < count:
            assert time.monotonic() < end, (self.box / "mta.log").read_text()
            time.sleep(0.05)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def place():
    """A folder that every user may enter, unlike pytest's."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mta quickstart ", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tree(place):
    listed = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], check=True, capture_output=True).stdout
    copied = place / "tree"
    copied.mkdir()
    present = b"\0".join(name for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists())
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", str(copied)], input=present, cwd=ROOT, check=True)
    return copied


@pytest.fixture
def quickstart(tree, place):
    made = Quickstart(tree, place / "box")
    yield made
    if made.box.exists():
        made.run("stop")
        shutil.rmtree(made.box)


def test_first_and_second_run(quickstart):
    text = quickstart.run()
    for expected in ("on 127.0.0.1:587", "as nobody", "accept  ", "attempt  ", "delivered  ", "DKIM         pass (rsa-sha256",
                     "DKIM         fail for a copy", "TLS          TLSv1.3", "bounced  ", "mtactl list"):
        assert expected in text, text
    content = pathlib.Path(re.search(r"file +(\S.*)", text)[1]).read_bytes()
    record = (quickstart.box / "dkim.txt").read_bytes()
    assert dkim.verify(content, dnsfunc=lambda name, timeout=5: record if name.startswith(b"s1._domainkey.sandbox") else None)
    hops = email.message_from_bytes(content).get_all("Received")
    assert len(hops) == 2 and "TLSv1.3" in hops[0] and "mta.sandbox.example" in hops[1]
    status = pathlib.Path(f"/proc/{quickstart.pid('mtad')}/status").read_text()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534", status, re.MULTILINE), status

    with quickstart.config.open("a") as config:
        config.write("# the user's own line\n")
    before, mtad = quickstart.config.read_text(), quickstart.pid("mtad")
    text = quickstart.run()
    assert "DKIM         pass" in text and quickstart.config.read_text() == before
    assert not is_alive(mtad) and is_alive(quickstart.pid("mtad")), "a changed configuration is not in use"

    mtad, begun = quickstart.pid("mtad"), time.monotonic()
    text = quickstart.run()
    assert "runs already" in text and "DKIM         pass" in text and quickstart.pid("mtad") == mtad
    assert time.monotonic() - begun < 20

    pids = [quickstart.pid("mtad"), quickstart.pid("internet")]
    assert quickstart.run("stop").count("has ended") == 2
    assert not any(map(is_alive, pids)) and not is_open(587) and not is_open(2525)
    assert "nothing is running" in quickstart.run("stop")


def test_what_the_guide_says(quickstart):
    text = quickstart.run()
    count = len(list(quickstart.box.glob("mailbox/*.eml")))
    quickstart.advised(text, "printf")
    quickstart.wait_mail(count + 1)
    assert "is running" in quickstart.advised(text, "mtactl status")
    assert quickstart.advised(text, "mtactl list") == ""

    quickstart.advised(text, "sed -i")
    mtad = quickstart.pid("mtad")
    assert "reloaded" in quickstart.advised(text, "mtactl reload") and is_alive(mtad)
    quickstart.advised(text, "printf")  # no DNS here besides the sandbox's: it has to wait
    end = time.monotonic() + 20
    while "friend@any.example" not in quickstart.advised(text, "mtactl list"):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert len(list(quickstart.box.glob("mailbox/*.eml"))) == count + 1
    text = quickstart.run()
    assert "the sandbox is switched off" in text and not is_open(2525) and is_open(587)


def test_port_taken(quickstart):
    with socket.create_server(("127.0.0.1", 587)) as other:
        text = quickstart.run(expect=1)
        assert "127.0.0.1:587 is taken" in text
        socket.create_connection(other.getsockname(), 1).close()
    assert not (quickstart.box / "mtad.pid").exists()

    with socket.create_server(("127.0.0.1", 2525)):
        assert "127.0.0.1:2525 is taken" in quickstart.run(expect=1)
        shutil.rmtree(quickstart.box)
        text = quickstart.run()  # a new sandbox takes a port that is free
        assert "127.0.0.1:12525" in text and "DKIM         pass" in text


def test_foreign_process_is_left_alone(quickstart):
    quickstart.box.mkdir()
    other = subprocess.Popen(["sleep", "60"])
    try:
        for name in ("mtad", "internet"):
            (quickstart.box / f"{name}.pid").write_text(f"{other.pid} 1\n")
        assert "nothing is running" in quickstart.run("stop")
        assert other.poll() is None
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()


def test_folder_that_only_root_may_enter(tree, place, quickstart):
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    quickstart.box, quickstart.config = closed / "box", closed / "box/mta.yaml"
    text = quickstart.run()
    assert "nobody cannot enter" in text and "as root, on" in text and "DKIM         pass" in text


def test_without_root(tree, place):
    subprocess.run(["chown", "-R", "nobody:nogroup", str(tree)], check=True)
    quickstart = Quickstart(tree, tree / "own box", AS_NOBODY)
    text = quickstart.run()
    try:
        assert "on 127.0.0.1:1587" in text and "DKIM         pass" in text
        with smtplib.SMTP("127.0.0.1", 1587, timeout=10) as client:
            assert client.noop()[0] == 250
        assert "belongs to nobody" in Quickstart(tree, quickstart.box).run(expect=1)
    finally:
        quickstart.run("stop")
