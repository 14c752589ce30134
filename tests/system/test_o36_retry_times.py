"""Case O36: attempts come when the schedule says, never in a rush, never after the expiry. (The arithmetic itself has
its property test in tests/unit.)"""

import pytest

from mta import event_time

LATER = [{"stage": "rcpt", "address": "bert@dest.example", "reply": "451 4.2.1 later"}]


def test_intervals_and_expiry(start_mta, start_peer, to_peer):
    peer = start_peer(script=LATER)
    mta = start_mta(to_peer(peer, retry={"intervals": ["1s", "2s", "3s"], "expire": "8s"}))
    identity = mta.submit("bert@dest.example")
    accepted = event_time(mta.wait_event("accept", id=identity))
    peer.wait_for(lambda record: record.messages, timeout=20)  # the report
    tries = [moment for connection in peer.connections for moment, line in connection.lines
             if b"bert@dest.example" in line and line.upper().startswith(b"RCPT")]
    gaps = [later - earlier for earlier, later in zip(tries, tries[1:])]
    assert len(gaps) >= 3
    for number, (gap, interval) in enumerate(zip(gaps, [1, 2, 3, 3, 3])):
        last = number == len(gaps) - 1  # comes at the expiry at the latest
        assert gap <= interval * 1.2 + 0.7 and (last or gap >= interval - 0.05), gaps
    ended = [event for kind in ("expired", "bounced") for event in mta.events(kind, id=identity)]
    assert ended and 7.5 <= (event_time(ended[0]) - accepted).total_seconds() <= 8 + 3 * 1.2 + 2
    mta.wait_empty()


@pytest.mark.parametrize("retry", [
    {"intervals": ["36500d"], "expire": "36500d"},
    {"intervals": ["1ms"], "expire": "1s"},
    {"intervals": ["106751991167d"]},
])
def test_extreme_values(start_mta, start_peer, to_peer, retry):
    """Refused with the position, or obeyed without haste or overflow."""
    peer = start_peer(script=LATER)
    mta = start_mta(to_peer(peer, retry=retry), wait=False)
    code, text = mta.run_once("--check")
    if code != 0:
        assert code == 2 and "mta.yaml:" in text and "retry" in text
        return
    mta.start()
    identity = mta.submit("bert@dest.example")
    mta.wait_event("deferred", id=identity)
    if retry["intervals"] == ["1ms"]:
        mta.wait_empty(seconds=15)
        assert len(mta.events("deferred", id=identity)) < 3000
    else:
        shown = mta.ctl("show", identity)
        assert shown["units"][0]["next"] > shown["accepted"]
        assert len(mta.events("deferred", id=identity)) == 1
