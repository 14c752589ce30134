"""mtactl: with a running mtad, without one, and with a daemon that breaks off or answers nonsense."""

import json
import os
import socket
import stat
import subprocess
import threading

import pytest

from mta import free_port, message
from test_o33_bad_entry import SPOILT, spoil

ID = "0123456789ABC"
DONE = b'{"done":true,"exit":0}\n'


class FakeDaemon:
    """Serves one connection: reads a line, sends the given bytes, closes."""

    def __init__(self, path, answer, request=True):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(20)
        self.request = b""
        self.answer, self.reads = answer, request
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        connection, _ = self.listener.accept()
        with connection:
            while self.reads and not self.request.endswith(b"\n"):
                self.request += connection.recv(65536)
            try:
                connection.sendall(self.answer)
            except BrokenPipeError:
                pass  # it had read enough

    def close(self):
        self.thread.join(20)
        self.listener.close()


@pytest.fixture
def fake(start_mta, tmp_path, closing):
    """fake(answer, *arguments) -> what mtactl made of it."""
    mta = start_mta(wait=False)

    def run(answer, *arguments, **options):
        path = tmp_path / "control"
        path.unlink(missing_ok=True)
        daemon = closing(FakeDaemon(path, answer, **options))
        return mta.ctl_run("--socket", str(path), *arguments), daemon

    return run


# ---- without a daemon that is one

BROKEN = {
    "nothing": b"", "empty line": b"\n", "half an object": b"{", "a list": b"[1]\n", "no JSON": b"hello\n",
    "no end": b'{"id":"x"}\n', "half a line": b'{"id":"x"', "raw bytes": b'{"raw":5}\nabc' + DONE,
    "zeros": b"\0" * 70000, "less than nothing": b'{"raw":-1}\n', "raw without end": b'{"raw":4}\nabcd',
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("command", [["list"], ["status"], ["show", ID], ["delete", "--all"], ["reload"]],
                         ids=lambda words: words[0])
def test_broken_answers(fake, kind, command):
    answer = BROKEN[kind]
    done, _ = fake(answer, *command)
    assert done.returncode == 1
    assert b"mtactl: " in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    done, _ = fake(answer, "--json", *command)
    assert done.returncode == 1 and done.stderr == b""
    assert "error" in json.loads(done.stdout.splitlines()[-1])


def test_daemon_that_does_not_wait_for_the_request(fake):
    done, _ = fake(b'{"error":"too many control clients at once","exit":1}\n', "status", request=False)
    assert done.returncode == 1
    assert done.stderr == b"mtactl: too many control clients at once\n"


def test_cat_breaks_off(fake):
    done, _ = fake(b'{"raw":3}\nA: {"raw":9}\nb\r\n', "cat", ID)
    assert done.returncode == 1
    assert done.stdout == b"A: b\r\n" and b"ended the connection" in done.stderr
    done, _ = fake(b'{"raw":4}\nA: \xc3{"error":"it left \x1b the queue","exit":1}\n'.replace(b"\x1b", b"\\u001b"),
                   "cat", ID, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["id"] == ID and told["message"] == "A: \u00c3" and "it left" in told["error"]


def test_output_that_cannot_be_written(fake, start_mta, tmp_path, closing):
    mta = start_mta(wait=False)
    closing(FakeDaemon(tmp_path / "full", b'{"raw":3}\nA: ' + DONE))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([mta.program("mtactl"), "--socket", str(tmp_path / "full"), "cat", ID], stdout=full,
                              stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 1 and b"cannot be written" in done.stderr


def test_hostile_text(fake):
    line = json.dumps({"id": ID, "domain": "a.example", "sender": "\x1b]0;x\x07\x9b", "recipients": ["\u202eb@a.example"],
                       "state": "queued", "next": None, "size": 1, "age": 1}).encode() + b"\n"
    done, daemon = fake(line + DONE, "list")
    assert done.returncode == 0
    assert json.loads(daemon.request) == {"command": "list"}
    assert not set(done.stdout) & (set(range(32)) - {10}) and b"\\x1b]0;x\\x07" in done.stdout
    assert b"\xe2\x80\xae" not in done.stdout and b"\xc2\x9b" not in done.stdout


def test_unreachable(start_mta, tmp_path):
    mta = start_mta(wait=False)

    def says(path, word):
        done = mta.ctl_run("--socket", str(path), "status")
        assert done.returncode == 3 and word in done.stderr and str(path).encode() in done.stderr, done.stderr
        done = mta.ctl_run("--socket", str(path), "--json", "status")
        assert done.returncode == 3 and word.decode() in json.loads(done.stdout)["error"]

    says(tmp_path / "none", b"no control socket")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    says(tmp_path / "stale", b"not running")
    says(tmp_path / ("x" * 120), b"not reachable")
    assert mta.ctl_run("status").returncode == 3  # as the configuration says


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_no_permission(start_mta):
    mta = start_mta()
    control = mta.state / "control"
    assert stat.S_IMODE(control.stat().st_mode) == 0o660
    with open(mta.program("mtactl"), "rb") as program:  # by descriptor: its folder may be closed to others
        done = subprocess.run([f"/proc/self/fd/{program.fileno()}", "--socket", str(control), "status"],
                              pass_fds=[program.fileno()], capture_output=True, timeout=20, user=65534, group=65534,
                              extra_groups=[])
    assert done.returncode == 3 and b"no permission" in done.stderr


def test_usage(start_mta):
    mta = start_mta(wait=False)
    for arguments in (["nonsense"], ["suspend", "a.example"], ["hold"], ["bounce", "--reason", "x"],
                      ["list", "--state", "x"], ["show", "x"], []):
        done = mta.ctl_run(*arguments)
        assert done.returncode == 2 and done.stdout == b"" and done.stderr.startswith(b"mtactl: "), arguments
        done = mta.ctl_run("--json", *arguments)
        assert done.returncode == 2 and "error" in json.loads(done.stdout) and done.stderr == b""
    assert b"not in this version" in mta.ctl_run("suspend", "a.example").stderr
    assert mta.ctl_run("--version").stdout.startswith(b"mtactl ")
    assert b"--older" in mta.ctl_run("help", "delete").stdout
    mta.config_path.unlink()
    done = mta.ctl_run("status")
    assert done.returncode == 2 and b"mta.yaml" in done.stderr and b"--socket" in done.stderr


def test_check(start_mta):
    mta = start_mta(wait=False)
    done = mta.ctl_run("check")
    assert (done.returncode, done.stdout) == (0, f"{mta.config_path}: ok\n".encode())
    assert mta.ctl("check") == {"file": str(mta.config_path), "ok": True}
    mta.config_path.write_text("hostnam: x.example\n")
    done = mta.ctl_run("check")
    assert done.returncode == 2 and b"mta.yaml:1:1: " in done.stderr
    done = mta.ctl_run("check", "--json")
    assert done.returncode == 2 and "mta.yaml:1:1: " in json.loads(done.stdout)["error"]


# ---- with mtad

def test_empty_queue(start_mta):
    mta = start_mta()
    assert mta.ctl("list") == [] and mta.ctl("status")["queued"] == 0
    assert b"the queue is empty" in mta.ctl_run("list").stderr
    for selection in (["--domain", "a.example"], [ID], ["--state", "held"]):
        done = mta.ctl_run("list", *selection)
        assert done.returncode == 1 and done.stdout == b"" and b"nothing matched" in done.stderr
    done = mta.ctl_run("delete", "--all")
    assert done.returncode == 1 and b"nothing matched" in done.stderr
    done = mta.ctl_run("show", ID, "--json")
    assert done.returncode == 1 and "no such message" in json.loads(done.stdout)["error"]


@pytest.fixture
def deferring(start_mta):
    """An mtad whose mail goes nowhere, with a wait of an hour after the first attempt."""
    return start_mta({"routes": [{"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]}})


def test_looking(deferring):
    mta = deferring
    first = mta.submit(["bert@dest.example", "carl@dest.example"])
    second = mta.submit("dora@other.example", sender="")
    mta.wait_event("deferred", count=3)
    mta.wait_show(first, lambda shown: shown["units"][0]["state"] == "deferred")
    mta.wait_show(second, lambda shown: shown["units"][0]["state"] == "deferred")

    units = mta.ctl("list")
    assert [unit["id"] for unit in units] == [first, second]
    assert units[0]["recipients"] == ["bert@dest.example", "carl@dest.example"] and units[0]["attempts"] == 1
    assert mta.ctl("list", "--domain", "OTHER.example")[0]["id"] == second
    assert mta.ctl("list", "--sender", "<>")[0]["id"] == second
    assert mta.ctl("list", "--recipient", "carl@dest.example", "--state", "deferred")[0]["id"] == first
    assert len(mta.ctl("list", "--limit", "1")) == 1
    assert mta.ctl_run("list", "--older", "1h").returncode == 1

    table = mta.ctl_run("list").stdout.decode().splitlines()
    assert table[0].split() == ["ID", "AGE", "SIZE", "STATE", "NEXT", "SENDER", "RECIPIENTS"]
    assert first in table[1] and "deferred" in table[1] and " in " in table[1] and "carl@dest.example" in table[1]
    assert "<>" in table[2]

    shown = mta.ctl_run("show", first).stdout.decode()
    assert "dest.example: deferred, next attempt in " in shown and "<carl@dest.example>  waiting" in shown
    assert "127.0.0.1" in shown and "1 attempt so far" in shown
    status = mta.ctl("status")
    assert (status["queued"], status["deferred"], status["retried"], status["accepted"]) == (2, 2, 3, 2)
    words = mta.ctl_run("status").stdout.decode()
    assert "mtad 0." in words and "deferred" in words


def test_cat(deferring):
    mta = deferring
    content = message(body="A line of the message.\r\n" * 10000) + b"gr\xfc\xdfe \xc3\xbc \x01\r\n"
    assert len(content) > 200000
    identity = mta.submit("bert@dest.example", content)
    raw = mta.ctl_run("cat", identity).stdout
    assert raw.endswith(content.split(b"\r\n\r\n", 1)[1])
    assert raw.startswith(b"Received:") or b"\r\nReceived:" in raw
    told = mta.ctl("cat", identity)
    assert told["id"] == identity
    assert told["message"].encode("latin-1") == raw.replace(b"\xc3\xbc", b"\xfc")  # as text the two are the same


def test_retry(deferring):
    mta = deferring
    identity = mta.submit("bert@dest.example")
    mta.wait_event("deferred")
    mta.wait_show(identity, lambda shown: shown["units"][0]["attempts"] == 1)
    done = mta.ctl_run("retry", "--state", "deferred", "--dry-run")
    assert done.returncode == 0 and b"nothing was changed" in done.stdout
    done = mta.ctl_run("--json", "retry", "--domain", "dest.example")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["result"] for line in lines[:-1]] == ["done"] and lines[0]["id"] == identity
    assert (lines[-1]["count"], lines[-1]["units"], lines[-1]["dry_run"]) == (1, 1, False)
    mta.wait_event("deferred", count=2)
    assert b"1 message due now" in mta.ctl_run("retry", identity).stdout
    mta.wait_event("deferred", count=3)


def test_delete(deferring):
    mta = deferring
    both = mta.submit(["bert@dest.example", "dora@other.example"])
    lone = mta.submit("carl@dest.example")
    last = mta.submit("emil@last.example")
    mta.wait_event("deferred", count=4)
    mta.wait_show(both, lambda shown: all(unit["state"] == "deferred" for unit in shown["units"]))
    done = mta.ctl_run("delete", "--domain", "dest.example", "--dry-run")
    assert done.returncode == 0
    assert b"2 messages would be deleted, 1 message only in part; nothing was changed" in done.stdout
    assert mta.queued() == 3
    done = mta.ctl_run("delete", "--domain", "dest.example")
    assert done.returncode == 0
    assert f"{both}  deleted  from <anna@sender.example>  to dest.example\n".encode() in done.stdout
    assert f"{lone}  deleted".encode() in done.stdout and b"2 messages deleted, 1 message only in part" in done.stdout
    removed = mta.wait_event("removed", id=lone)
    assert (removed["sender"], removed["recipient"], removed["domain"]) == (
        "anna@sender.example", "carl@dest.example", "dest.example")
    assert mta.wait_event("removed", id=both)["recipient"] == "bert@dest.example"
    step = mta.wait_event("queue", selector="--domain dest.example")
    assert (step["text"], step["count"], step["units"]) == ("delete by an admin", 2, 2)
    assert [unit["domain"] for unit in mta.ctl("list", both)] == ["other.example"]

    done = mta.ctl_run("--json", "delete", both, ID, last)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1  # one of them was not there
    assert [(line["id"], line["result"]) for line in lines[:-1]] == [
        (both, "done"), (ID, "nothing matched"), (last, "done")]
    assert lines[-1]["count"] == 2
    assert mta.queued() == 0
    done = mta.ctl_run("delete", both)
    assert done.returncode == 1 and done.stdout == b"" and both.encode() in done.stderr


def test_damaged_record(deferring):
    mta = deferring
    good = mta.submit("bert@dest.example")
    bad = mta.submit("carl@dest.example")
    mta.wait_event("deferred", count=2)
    mta.stop()
    assert spoil(mta.state, 1, SPOILT["wrong checksum"]) >= 1
    mta.start()
    units = {unit["id"]: unit for unit in mta.ctl("list")}
    assert units[good]["state"] == "deferred" and units[bad]["state"] == "damaged" and units[bad]["reason"]
    assert [unit["id"] for unit in mta.ctl("list", "--state", "damaged")] == [bad]
    assert mta.ctl_run("retry", bad).returncode == 1
    mta.ctl_run("delete", "--domain", "dest.example")
    assert [unit["id"] for unit in mta.ctl("list")] == [bad]  # nothing is known about it, so no selector means it
    done = mta.ctl_run("delete", "--state", "damaged")
    assert done.returncode == 0 and f"{bad}  deleted".encode() in done.stdout
    assert mta.ctl("list") == []
