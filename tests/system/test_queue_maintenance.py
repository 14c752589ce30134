"""Looking after the queue with mtactl: check, compact, backup and restore, while mail flows and while mtad is stopped."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

from load import Load
from mta import message

DOWN = {"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]}}


def lines(done):
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def blocks(mta):
    return os.stat(mta.state / "queue/data.mdb").st_blocks * 512


def checked(mta, *arguments):
    """`queue check --json`: (exit code, the result, the lines before)."""
    done = mta.ctl_run("--json", "queue", "check", *arguments, seconds=120)
    told = lines(done)
    assert told and "problems" in told[-1], (done.returncode, done.stdout, done.stderr)
    return done.returncode, told[-1], [line["line"] for line in told[:-1]]


def assert_clean(mta, count=None):
    code, result, told = checked(mta)
    assert code == 0 and result["problems"] == 0, (result, told)
    assert count is None or result["messages"] == count


@pytest.mark.timeout(180)
def test_while_mail_flows(start_mta, closing, tmp_path):
    """One daemon under load: each command does its work, and no message is lost, refused or changed."""
    mta = start_mta(DOWN, build="release")
    kept = [mta.submit("bert@dest.example", message(body="x" * 70 + "\r\n" + str(i) + "\r\n")) for i in range(20)]
    load = closing(Load(mta, clients=4, count=0, size=20000))
    backup = tmp_path / "backup"
    end = time.monotonic() + 60
    while len(load.sent) < 300 and time.monotonic() < end:
        time.sleep(0.05)

    assert_clean(mta)
    done = mta.ctl_run("queue", "backup", str(backup), seconds=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith(f"{backup}: ") and b"messages" in done.stdout
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not pathlib.Path(f"{backup}.part").exists()

    mta.ctl_run("delete", "--sender", "load@sender.example", seconds=60)
    before = blocks(mta)
    done = mta.ctl_run("--json", "queue", "compact", seconds=60)
    result = lines(done)[0]
    if done.returncode != 0:
        assert "file system cannot" in result["error"]
    else:
        assert result["before"] > 0 and result["given_back"] > 0, result
        assert before > 5_000_000
    assert_clean(mta)
    load.finish()
    assert not load.refused and not load.unsure
    for identity in kept:
        assert mta.ctl_run("cat", identity).returncode == 0
    mta.stop()
    assert_clean(mta)

    # The backup is the queue of that moment, in a new place.
    other = start_mta(DOWN, wait=False)
    done = other.ctl_run("queue", "restore", str(backup))
    assert done.returncode == 1 and b"state_dir" in done.stderr
    other.state.mkdir()
    done = other.ctl_run("queue", "restore", str(backup))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"restored: ")
    other.start()
    for i, identity in enumerate(kept):
        assert f"\r\n{i}\r\n".encode() in other.ctl_run("cat", identity).stdout
    assert_clean(other)


def test_killed_while_compacting(start_mta, closing):
    """kill -9 in the middle, again and again: every message that was answered 250 is there, and whole."""
    mta = start_mta(DOWN, build="release")
    kept = []
    for turn in range(4):
        load = closing(Load(mta, clients=4, count=200, size=30000))
        load.finish()
        kept.append(mta.submit("bert@dest.example"))
        mta.ctl_run("delete", "--sender", "load@sender.example", seconds=60)
        compact = subprocess.Popen([mta.program("mtactl"), "--config", str(mta.config_path), "queue", "compact"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.003 * turn)
        mta.kill()
        compact.wait(20)
        assert_clean(mta, len(kept))
        mta.start()
    for identity in kept:
        assert mta.ctl_run("cat", identity).stdout.endswith(b"Hello.\r\n")


def spoil(mta):
    """Take a message's entry out of the order of work, and bytes out of another."""
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(mta.state / "queue"), max_dbs=16) as store:
        due, body = store.open_db(b"due"), store.open_db(b"body")
        with store.begin(write=True) as txn:
            with txn.cursor(body) as cursor:
                assert cursor.last()
                key, value = cursor.key(), bytearray(cursor.value())
            with txn.cursor(due) as cursor:
                assert cursor.first()
                while cursor.key()[-10:-2] == key[:8]:  # of another message
                    assert cursor.next()
                assert cursor.delete()
            value[0] ^= 1
            txn.put(key, bytes(value), db=body)


def test_repair(start_mta):
    mta = start_mta(DOWN)
    for _ in range(3):
        mta.submit("bert@dest.example")
    mta.wait_event("deferred", count=3)
    mta.stop()
    spoil(mta)
    code, result, told = checked(mta)
    assert code == 1 and result["problems"] >= 2 and result["repaired"] == 0
    assert any("the order of work does not have it" in line for line in told)
    assert any("its bytes are damaged" in line for line in told)

    mta.start()
    done = mta.ctl_run("queue", "check", "--repair")
    assert done.returncode == 1 and f"in use by process {mta.process.pid}".encode() in done.stderr
    mta.stop()

    done = mta.ctl_run("queue", "check", "--repair")
    assert done.returncode == 1 and b"put right" in done.stdout, (done.stdout, done.stderr)
    assert b"1 message is set aside" in done.stdout
    code, result, _ = checked(mta)
    assert code == 0 and result["messages"] == 2 and result["damaged"] == 1
    mta.start()
    assert mta.queued() == 2
    assert len(mta.ctl("list", "--state", "damaged")) == 1


def test_restore_into_a_queue(start_mta, tmp_path):
    """Refused while mtad runs, and over messages without --force; then the old file is kept."""
    mta = start_mta(DOWN)
    mta.submit("bert@dest.example")
    backup = tmp_path / "backup"
    assert mta.ctl_run("queue", "backup", str(backup)).returncode == 0
    mta.submit("carl@dest.example")
    done = mta.ctl_run("queue", "restore", str(backup), "--force")
    assert done.returncode == 1 and f"in use by process {mta.process.pid}".encode() in done.stderr
    mta.stop()
    done = mta.ctl_run("queue", "restore", str(backup))
    assert done.returncode == 1 and b"holds messages" in done.stderr
    (tmp_path / "half").write_bytes(backup.read_bytes()[:-20])
    done = mta.ctl_run("queue", "restore", "--force", str(tmp_path / "half"))
    assert done.returncode == 1 and b"no whole backup" in done.stderr
    assert_clean(mta, 2)
    done = mta.ctl_run("--json", "queue", "restore", "--force", str(backup))
    assert done.returncode == 0, done.stdout
    assert (mta.state / "queue" / lines(done)[0]["kept"]).exists()
    mta.start()
    assert mta.queued() == 1
    mta.stop()
    again = tmp_path / "again"  # of a stopped queue
    assert mta.ctl_run("queue", "backup", str(again)).returncode == 0
    assert mta.ctl_run("queue", "restore", "--force", str(again)).returncode == 0
    assert_clean(mta, 1)


def test_clients_that_leave(start_mta, tmp_path):
    """A backup whose mtactl dies or stops reading ends; the next one works, and nothing is left behind."""
    mta = start_mta(DOWN)
    for _ in range(30):
        mta.submit("bert@dest.example", message(body=("y" * 900 + "\r\n") * 200))
    for number in (signal.SIGKILL, signal.SIGSTOP):
        process = subprocess.Popen([mta.program("mtactl"), "--config", str(mta.config_path), "queue", "backup",
                                    str(tmp_path / "half")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.02)
        process.send_signal(number)
        time.sleep(0.1)
        process.kill()
        process.wait()
        assert not (tmp_path / "half").exists() or (tmp_path / "half").stat().st_size > 5_000_000
    end = time.monotonic() + 10
    while True:
        done = mta.ctl_run("queue", "backup", str(tmp_path / "whole"))
        if done.returncode == 0 or time.monotonic() > end:
            break
        assert b"under way already" in done.stderr
        time.sleep(0.1)
    assert done.returncode == 0, done.stderr
    os.mkfifo(tmp_path / "fifo")
    for name in "fifo", ".":  # as /dev/null and /dev/stdout are: nothing takes their place
        done = mta.ctl_run("queue", "backup", str(tmp_path / name))
        assert done.returncode == 1 and b"no ordinary file" in done.stderr
    assert (tmp_path / "fifo").is_fifo()
    done = mta.ctl_run("queue", "backup", "/nonexistent/folder/file")
    assert done.returncode == 1 and b"cannot make" in done.stderr
    done = mta.ctl_run("queue", "backup", "/dev/full/x")
    assert done.returncode == 1
    assert_clean(mta, 30)
