"""The limit of open files is reached: by clients that sit there, which leaves room for delivery, or by whatever else, which
lets new ones wait. Nothing spins, nothing floods the log, and all goes on when there is room again."""

import os
import re
import resource

import pytest

from rawclient import Raw

PLACES, REFUSED, DELIVERIES = 71, 4, 75  # of 200: mta/net/descriptors.h


def open_files(mta):
    return len(os.listdir(f"/proc/{mta.process.pid}/fd"))


def cpu_s(mta):
    with open(f"/proc/{mta.process.pid}/stat", encoding="ascii") as stat:
        columns = stat.read().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


def greeted_within(client, seconds):
    client.sock.settimeout(seconds)
    try:
        client.expect(220)
    except TimeoutError:
        return False
    return True


def complaints(mta):
    return len(mta.events("reject", text="new connections have to wait") +
               mta.events("attempt", text="no socket could be made; trying again"))


def waits_quietly(mta, client, seconds=1.2):
    """No greeting, and next to nothing done or said meanwhile."""
    before = cpu_s(mta)
    assert not greeted_within(client, seconds)
    assert cpu_s(mta) - before < seconds / 4
    assert 1 <= complaints(mta) <= 6


def submit_over(client, recipient="bert@dest.example"):
    """A message on a session that stands. Returns its id."""
    client.envelope([recipient])
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    return client.expect(250, "queued as").split()[-1]


def test_idle_clients_leave_room_for_delivery(start_mta, start_peer, to_peer, closing):
    peer = start_peer()
    mta = start_mta(to_peer(peer, timeouts={"idle": "1s"}), wrapper=["prlimit", "--nofile=200"])
    mta.wait_event("start", clients=PLACES, deliveries=DELIVERIES)
    mta.wait_for_sessions(0)
    idle = [closing(Raw(mta)) for _ in range(PLACES)]
    refused = [closing(Raw(mta, greet=False)) for _ in range(REFUSED)]
    for client in refused:
        client.expect(421, "4.3.2 Too many connections")  # and it does not hang up
    waiting = closing(Raw(mta, greet=False))
    waits_quietly(mta, waiting)
    mta.wait_event("delivered", id=submit_over(idle[0]))
    assert mta.ctl("status")["sessions"] == PLACES
    assert open_files(mta) < 200 - DELIVERIES
    for client in refused + idle[1:]:
        client.close()
    code, _ = waiting.reply()  # it was accepted by what room there was first
    assert code in (220, 421)
    mta.wait_for_sessions(2 if code == 220 else 1)
    assert greeted_within(closing(Raw(mta, greet=False)), 5)


def test_none_left(start_mta, start_peer, to_peer, closing):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    idle = [closing(Raw(mta)) for _ in range(3)]
    limits = resource.prlimit(mta.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(mta.process.pid, resource.RLIMIT_NOFILE, (5, limits[1]))
    waiting = closing(Raw(mta, greet=False))
    identity = submit_over(idle[0])
    waits_quietly(mta, waiting)
    assert mta.events("reject", error="Too many open files")
    assert mta.events("attempt", text="no socket could be made; trying again")
    idle[1].command("NOOP", 250)
    resource.prlimit(mta.process.pid, resource.RLIMIT_NOFILE, limits)
    assert greeted_within(waiting, 5)
    mta.wait_event("delivered", id=identity)
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    assert not mta.events("deferred")


@pytest.mark.parametrize("failure, pauses", [("ENFILE", True), ("ENOMEM", True), ("ECONNABORTED", False)])
def test_accept_fails(start_mta, failure, pauses):
    """Of the machine's: looked at again after a while. Of one connection's: the next one is taken at once."""
    mta = start_mta(wait=False, build="release")
    trace = mta.folder / "trace"
    mta.wrapper = ["strace", "-D", "-f", "-qq", "-ttt", "-o", str(trace), "-e", "trace=accept4", "-e",
                   f"inject=accept4:error={failure}:when=1..5"]
    mta.start()
    with Raw(mta) as client:
        client.command("NOOP", 250)
    mta.stop()
    times = [float(re.search(r"(\d+\.\d+) accept4", line)[1]) for line in trace.read_text().splitlines()
             if "(INJECTED)" in line]
    assert len(times) == 5
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert all((gap > 0.08) == pauses for gap in gaps), gaps
    assert len(mta.events("reject", text="new connections have to wait")) <= (2 if pauses else 0)
