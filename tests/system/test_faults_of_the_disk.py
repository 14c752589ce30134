"""The disk fails under load, and works again: nothing accepted is lost or sent twice, senders are told the truth, the
log says what it is without flooding, and all goes on without a restart."""

import smtplib
import socket
import time

import pytest

import diskfaults
from diskfaults import DiskFaults
from load import Load
from mta import free_port, message

CASES = {
    # faults, one in, what senders are told, a word of the log
    "no_space": (diskfaults.WRITE_ENOSPC | diskfaults.OTHER_ENOSPC, 1, "452 4.3.1", "No space left"),
    "write_fails": (diskfaults.WRITE_EIO, 1, "451 4.3.0", "Input/output error"),
    "write_is_short": (diskfaults.WRITE_SHORT, 1, "451 4.3.0", "Input/output error"),
    "sync_fails": (diskfaults.SYNC_EIO, 1, "451 4.3.0", "Input/output error"),
    "meta_fails": (diskfaults.META_EIO, 1, "451 4.3.0", "Input/output error"),
    "meta_arrives_but_fails": (diskfaults.META_LATE, 1, "451 4.3.0", "it was not stored"),
    "stays_broken": (diskfaults.BROKEN, 1, "451 4.3.0", "the store cannot be opened again"),
    "everything_fails": (diskfaults.DEAD, 1, "451 4.3.0", "Input/output error"),
    "now_and_then": (diskfaults.DEAD, 7, "451 4.3.0", "Input/output error"),
}
FAULTY_S = 1.2


def wait_until(predicate, seconds, what):
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def busiest_second(mta):
    """Of `queue` events without a message's id: what the store says about itself."""
    seconds = {}
    for event in mta.events("queue"):
        if "id" not in event:
            seconds[event["time"][:19]] = seconds.get(event["time"][:19], 0) + 1
    return max(seconds.values(), default=0)


def check_queue(mta):
    mta.stop()
    done = mta.ctl_run("queue", "check")
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.crash
@pytest.mark.parametrize("case", CASES)
def test_faults(start_mta, start_sink, closing, to_peer, tmp_path, case):
    faults, every, told, word = CASES[case]
    disk = closing(DiskFaults(tmp_path))
    sink = start_sink()
    mta = start_mta(to_peer(sink), wait=False)
    disk.attach(mta)
    mta.start()
    load = closing(Load(mta, clients=8, size=20000))
    wait_until(lambda: len(load.sent) > 20, 20, "no load")

    disk.set(faults, every)
    wait_until(lambda: disk.hits > 0, 10, "nothing failed")
    time.sleep(FAULTY_S)
    status = mta.ctl("status")
    assert status["broken"] or case != "stays_broken"
    before = len(load.sent)
    disk.set(0)
    wait_until(lambda: len(load.sent) > before + 20, 20, "does not take mail again")
    load.finish()
    mta.wait_empty(seconds=60)

    print(f"{case}: {len(load.sent)} taken, {len(load.refused)} refused, {disk.hits} calls failed, "
          f"{len(mta.events('queue'))} lines")
    assert not load.unsure
    assert load.refused and {reply[:9] for _, reply in load.refused} == {told}
    assert load.sent <= set(sink.counts)
    again = {key: count for key, count in sink.counts.items() if count > 1}
    assert not again
    wrong = [message["key"] for message in sink.messages if message["sha256"] != load.digest(message["key"])]
    assert not wrong
    refused = {key for key, _ in load.refused}
    undecided = faults & (diskfaults.META_EIO | diskfaults.META_LATE)  # may be stored all the same
    assert undecided or not refused & set(sink.counts)
    assert any(word in event.get("text", "") for event in mta.events("queue")), mta.events("queue")[:5]
    assert busiest_second(mta) <= 4
    assert not mta.events("bounced")
    check_queue(mta)


@pytest.mark.crash
def test_deferred_while_it_fails(start_mta, start_peer, closing, to_peer, tmp_path):
    """When the deferral can be recorded at last, the next attempt is overdue: it comes soon all the same."""
    disk = closing(DiskFaults(tmp_path))
    peer = start_peer(script=[{"stage": "rcpt", "reply": "451 4.2.0 later", "delay": 1, "times": 40}])
    mta = start_mta(to_peer(peer, delivery={"site": {"connections": 40, "messages_per_connection": 1}}), wait=False)
    disk.attach(mta)
    mta.start()
    for _ in range(40):
        mta.submit("bert@dest.example")
    mta.wait_event("attempt", seconds=20)
    disk.set(diskfaults.SYNC_EIO)
    mta.wait_event("deferred", count=30, seconds=20)
    time.sleep(2)
    disk.set(0)
    mta.wait_empty(seconds=25)


@pytest.mark.crash
@pytest.mark.parametrize("case", ["everything_fails", "stays_broken", "meta_arrives_but_fails"])
def test_killed_while_it_fails(start_mta, start_sink, closing, to_peer, tmp_path, case):
    """Started again on the page cache of a process that died in the middle of it."""
    disk = closing(DiskFaults(tmp_path))
    sink = start_sink()
    mta = start_mta(to_peer(sink), wait=False)
    disk.attach(mta)
    mta.start()
    load = closing(Load(mta, clients=8, size=20000))
    wait_until(lambda: len(load.sent) > 20, 20, "no load")
    disk.set(CASES[case][0])
    wait_until(lambda: len(load.refused) > 20, 10, "nothing failed")
    mta.kill()
    disk.set(0)
    mta.start()
    before = len(load.sent)
    wait_until(lambda: len(load.sent) > before + 20, 20, "does not take mail again")
    load.finish()
    mta.wait_empty(seconds=60)
    assert load.sent <= set(sink.counts)
    undecided = {key for key, _ in load.refused} | load.unsure
    assert set(sink.counts) <= load.sent | undecided
    assert all(message["sha256"] == load.digest(message["key"]) for message in sink.messages)
    check_queue(mta)


@pytest.mark.crash
def test_while_nobody_reads_a_backup(start_mta, closing, tmp_path):
    """The store has to be opened again while a backup waits for its reader, who is slow or asleep: mail does not wait."""
    disk = closing(DiskFaults(tmp_path))
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]}}, wait=False)
    disk.attach(mta)
    mta.start()
    for _ in range(10):
        mta.submit("bert@dest.example", message(body=("y" * 900 + "\r\n") * 500))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(mta.state / "control"))
        client.sendall(b'{"command":"queue backup"}\n')
        time.sleep(1)
        disk.set(diskfaults.META_LATE)
        begun = time.monotonic()
        with pytest.raises(smtplib.SMTPDataError) as told, mta.smtp() as session:
            session.sendmail("anna@sender.example", ["bert@dest.example"], "Subject: x\r\n\r\nx\r\n")
        assert told.value.smtp_code == 451 and time.monotonic() - begun < 5
        disk.set(0)
        client.settimeout(20)
        said = b""
        while part := client.recv(1 << 20):
            said = said[-1000:] + part
    assert b"opened again" in said.splitlines()[-1]
    mta.submit("bert@dest.example")
    check_queue(mta)
