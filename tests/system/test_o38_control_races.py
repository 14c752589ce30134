"""Case O38: listing, showing, retrying and deleting in tight loops beside submission and delivery: reading changes
nothing, and the log tells every message's fate."""

import pytest

from load import Load


@pytest.mark.heavy
def test_control_beside_the_spooler(start_mta, start_sink, closing, to_peer):
    sink = start_sink()
    mta = start_mta(to_peer(sink))
    load = closing(Load(mta, clients=20, count=4000))
    rounds = 0
    while load.running():
        listed = mta.ctl("list", "--limit", "20")
        for unit in listed[:3]:
            mta.ctl_run("show", unit["id"])
        for unit in listed[3:5]:
            mta.ctl_run("delete", unit["id"])
            mta.ctl_run("retry", unit["id"])
        rounds += 1
    load.finish()
    assert not load.refused and not load.unsure
    mta.wait_empty(seconds=60)
    fates = {}
    for kind in ("delivered", "removed", "bounced", "expired"):
        for event in mta.events(kind):
            fates.setdefault(event["id"], set()).add(kind)
    accepted = {event["id"] for event in mta.events("accept")}
    assert len(accepted) == len(load.sent) == 4000
    assert accepted == set(fates), "a message without a fate"
    removed = [identity for identity, kinds in fates.items() if "removed" in kinds]
    print(f"{rounds} rounds, {len(removed)} removed")
    assert len(sink.messages) >= 4000 - len(removed)
    assert max(sink.counts.values()) == 1
