"""kill -9 at random moments while clients submit: every message answered 250 is delivered, whole; a copy too many is
possible only for what was in flight at a kill. Case O32 at its first half; tests/soak runs 200 rounds."""

import os
import random
import threading
import time

import pytest

from load import Load
from sink import Sink

ROUNDS = int(os.environ.get("MTA_KILL_ROUNDS") or 55)


@pytest.mark.crash
@pytest.mark.timeout(60 + 6 * ROUNDS)
def test_kill9_loop(start_mta, closing, to_peer):
    arrived, lock = {}, threading.Lock()

    def note(event):
        if event["event"] == "message":
            with lock:
                arrived.setdefault(event["key"], []).append((time.monotonic(), event["sha256"]))

    sink = closing(Sink(on_event=note))
    mta = start_mta(to_peer(sink))
    seed = random.randrange(1 << 32)
    print("random seed", seed)
    chance = random.Random(seed)
    load = closing(Load(mta, clients=8))
    kills = []
    for _ in range(ROUNDS):
        time.sleep(chance.uniform(0.02, 0.5))
        mta.kill()
        kills.append(time.monotonic())
        mta.start()
    load.finish()
    assert not load.refused, load.refused[:3]
    mta.wait_empty(seconds=60)

    lost = [key for key in load.sent if key not in arrived]
    again = {key: len(copies) - 1 for key, copies in arrived.items() if len(copies) > 1}
    print(f"{len(kills)} kills, {len(load.sent)} messages answered 250, {len(load.unsure)} unanswered, "
          f"{len(arrived)} arrived, {sum(again.values())} duplicates")
    assert len(load.sent) > 10 * ROUNDS, "hardly any load"
    assert not lost, lost[:10]
    assert set(arrived) <= load.sent | load.unsure
    for key, copies in arrived.items():
        assert {sha for _, sha in copies} == {load.digest(key)}, key
    for key in again:
        times = [moment for moment, _ in arrived[key]]
        for earlier, later in zip(times, times[1:]):
            assert any(earlier < kill < later and kill - earlier < 2 for kill in kills), \
                f"{key} was sent twice without having been in flight at a kill"


@pytest.mark.crash
def test_undelivered_mail_survives(start_mta, closing):
    """The same without a receiver: at each start all that was answered 250 is listed."""
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]}})
    load = closing(Load(mta, clients=4))
    for _ in range(8):
        time.sleep(random.uniform(0.05, 0.4))
        mta.kill()
        mta.start()
    load.finish()
    listed = mta.ctl("list")
    assert len({unit["id"] for unit in listed}) == mta.queued()
    assert len(load.sent) <= mta.queued() <= len(load.sent) + len(load.unsure)
