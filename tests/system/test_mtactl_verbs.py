"""mtactl hold, release, retry, delete, bounce and summary against a running mtad: each verb in each state of a unit,
dry runs that tell what the real one does, recipients that travel together, and many messages at once."""

import json
import time

import pytest

from dsn import Dsn
from load import Load
from mta import free_port


def verb(mta, *arguments):
    """mtactl --json VERB ...: (exit code, lines, sum)."""
    done = mta.ctl_run("--json", *arguments)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == b"" or done.returncode == 1
    return done.returncode, lines[:-1], lines[-1]


def dry_and_real(mta, *arguments):
    """Both must tell the same; returns the ids that were changed."""
    code, would, dry = verb(mta, *arguments, "--dry-run")
    real_code, did, real = verb(mta, *arguments)
    assert code == real_code
    assert dry.pop("dry_run") and not real.pop("dry_run")
    assert dry == real, arguments
    assert [line["id"] for line in would] == [line["id"] for line in did]
    assert all(line["result"] == "done" for line in did)
    return [line["id"] for line in did]


def state(mta, identity):
    return mta.ctl("show", identity)["units"][0]["state"]


@pytest.fixture
def deferring(start_mta):
    """An mtad whose mail goes nowhere, with a wait of an hour after the first attempt."""
    return start_mta({"routes": [{"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]}})


def submit_deferred(mta, *recipients):
    """Submit a message to each, and wait until all have been tried once."""
    identities = [mta.submit(recipient) for recipient in recipients]
    wait_deferred(mta, *identities)
    return identities


def wait_deferred(mta, *identities, attempts=1):
    """Until that many attempts of the messages are in the store."""
    end = time.monotonic() + 20
    while True:
        units = [unit for unit in mta.ctl("list") if unit["id"] in identities]
        if all(unit["attempts"] >= attempts and unit["state"] == "deferred" for unit in units):
            return
        assert time.monotonic() < end, units
        time.sleep(0.05)


def test_each_verb_in_each_state(deferring):
    mta = deferring
    first, second, third = submit_deferred(mta, "a@a.example", "b@b.example", "c@c.example")
    assert dry_and_real(mta, "release", "--all") == []
    assert dry_and_real(mta, "hold", "--domain", "a.example") == [first]
    assert dry_and_real(mta, "hold", "--all") == [second, third]
    assert state(mta, first) == "held" and mta.ctl("status")["held"] == 3
    assert dry_and_real(mta, "retry", "--all") == []
    words = mta.ctl_run("retry", "--all")
    assert words.returncode == 0 and b"3 units left alone: held" in words.stdout
    assert b"held: not tried until an admin releases it" in mta.ctl_run("show", first).stdout
    attempts = len(mta.events("deferred"))

    mta.stop()  # what is held stays held
    mta.start()
    assert [state(mta, identity) for identity in (first, second, third)] == ["held"] * 3
    assert dry_and_real(mta, "release", second) == [second]
    wait_deferred(mta, second, attempts=2)
    assert dry_and_real(mta, "retry", "--state", "deferred") == [second]
    wait_deferred(mta, second, attempts=3)
    assert {event["id"] for event in mta.events("deferred")[attempts:]} == {second}  # the held ones were left alone

    assert dry_and_real(mta, "delete", "--state", "held", "--domain", "a.example") == [first]
    assert verb(mta, "delete", first)[:2] == (1, [{"id": first, "result": "nothing matched"}])
    assert verb(mta, "hold", "--domain", "none.example")[0] == 1
    assert dry_and_real(mta, "delete", "--all") == [second, third]
    assert mta.queued() == 0


def test_bounce(start_mta, start_peer):
    """What is bounced, held mail too, comes back to its sender with the admin's reason; nobody else gets any."""
    peer = start_peer()
    mta = start_mta({"routes": [{"match": {"recipients": ["sender.example"]}, "to": [f"127.0.0.1:{peer.port}"]},
                                {"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]}})
    first, second = submit_deferred(mta, "a@a.example", "b@b.example")
    wait_deferred(mta, mta.submit("c@c.example", sender=""))
    mta.ctl_run("hold", second)
    done = mta.ctl_run("bounce", "--domain", "b.example", "--reason", "typed \x1b[31m twice")
    assert done.returncode == 0 and f"{second}  is being returned to its sender".encode() in done.stdout
    mta.wait_event("delivered")
    assert [line["id"] for line in mta.ctl("list")][:1] == [first]
    done = mta.ctl_run("bounce", "--all")
    assert done.returncode == 0
    mta.wait_empty()  # the one without a sender is gone: nobody to tell
    assert len(peer.messages) == 2
    for returned, recipient, reason in zip(peer.messages, ("b@b.example", "a@a.example"), ("typed", "administrator")):
        report = Dsn(returned.content)
        assert report.recipients[recipient]["Status"] == "5.7.0"
        assert b"returned to the sender by the administrator" in returned.content
        assert reason.encode() in returned.content and b"\x1b" not in returned.content
        assert returned.recipients == ["anna@sender.example"]


def test_recipients_that_travel_together(deferring):
    mta = deferring
    pair = mta.submit(["ann@a.example", "bob@a.example", "cid@b.example"])
    wait_deferred(mta, pair)
    for final in ("delete", "bounce"):
        done = mta.ctl_run(final, "--recipient", "bob@a.example")
        assert done.returncode == 1
        assert b"kept: other recipients travel with this one" in done.stdout and b"1 unit kept" in done.stdout
    assert dry_and_real(mta, "hold", "--recipient", "bob@a.example") == [pair]
    assert [unit["state"] for unit in mta.ctl("show", pair)["units"]] == ["held", "deferred"]
    assert dry_and_real(mta, "delete", "--recipient", "cid@b.example") == [pair]
    assert dry_and_real(mta, "delete", pair, "--domain", "a.example") == [pair]
    assert mta.queued() == 0


def test_summary(deferring):
    mta = deferring
    submit_deferred(mta, "a@a.example", "b@a.example", "c@b.example")
    both = mta.submit(["d@b.example", "e@c.example"], sender="")
    wait_deferred(mta, both)
    rows = mta.ctl("summary")
    assert [(row["row"], row["name"], row["total"]) for row in rows] == [
        ("total", "", 5), ("domain", "a.example", 2), ("domain", "b.example", 2), ("domain", "c.example", 1)]
    assert rows[0]["counts"] == [5] + [0] * 9 and rows[0]["minutes"][-1] == 1280
    table = mta.ctl_run("summary", "--limit", "1").stdout.decode().splitlines()
    assert table[0].split() == "DOMAIN T 5 10 20 40 80 160 320 640 1280 1280+".split()
    assert table[1].split()[:2] == ["TOTAL", "5"] and table[3].startswith("(2 others)")
    rows = mta.ctl("summary", "--by", "sender")
    assert [(row["name"], row["total"]) for row in rows] == [("", 4), ("sender.example", 3), ("<>", 1)]
    assert mta.ctl("summary", "--domain", "c.example")[0]["total"] == 1
    assert mta.ctl_run("summary", "--state", "held").returncode == 1
    assert b"TOTAL" in mta.ctl_run("summary", "--older", "1h").stdout


def test_lines(deferring):
    """Few are named one by one, many are counted; --verbose and --json name all."""
    mta = deferring
    submit_deferred(mta, *[f"r{n}@many.example" for n in range(30)])
    words = mta.ctl_run("hold", "--all", "--dry-run").stdout.decode().splitlines()
    assert len(words) == 22 and words[-2] == "... and 10 more (--verbose names all)"
    assert words[-1] == "30 messages would be held; nothing was changed"
    assert len(mta.ctl_run("hold", "--all", "--verbose").stdout.decode().splitlines()) == 31
    code, lines, total = verb(mta, "release", "--all")
    assert (code, len(lines), total["count"]) == (0, 30, 30)


@pytest.mark.heavy
def test_verbs_beside_the_spooler(start_mta, start_sink, closing, to_peer):
    """Case O38 for the other verbs: hold, release, retry and bounce of everything, over and over, beside submission
    and delivery. Every message is delivered once or bounced, and none is left behind."""
    sink = start_sink()
    mta = start_mta(to_peer(sink))
    load = closing(Load(mta, clients=10, count=2000))
    rounds = 0
    while load.running():
        for words in (["hold", "--all"], ["retry", "--state", "deferred"], ["summary", "--limit", "3"],
                      ["release", "--all"]):
            assert mta.ctl_run(*words).returncode in (0, 1)
        queued = mta.ctl_run("--json", "list", "--limit", "4", "--state", "queued")
        assert queued.returncode in (0, 1)  # 1: none is just now
        for line in queued.stdout.splitlines()[2:]:
            mta.ctl_run("bounce", json.loads(line)["id"])
        rounds += 1
    load.finish()
    assert not load.refused and not load.unsure
    mta.ctl_run("release", "--all")
    mta.wait_empty(seconds=60)
    fates = {}
    for kind in ("delivered", "bounced"):
        for event in mta.events(kind):
            fates.setdefault(event["id"], []).append(kind)
    accepted = {event["id"] for event in mta.events("accept")}
    bounced = sum("bounced" in kinds for identity, kinds in fates.items() if identity in accepted)
    print(f"{rounds} rounds, {bounced} bounced")
    assert accepted <= set(fates), "a message without a fate"
    assert max(sink.counts.values()) == 1
    assert all(len(kinds) == 1 for identity, kinds in fates.items() if identity in accepted)
