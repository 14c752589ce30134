"""Half a million messages for one server that is down, in several rounds of retries: other mail arrives within a
second all the time, memory stays bounded, a restart begins at once. MTA_FLOOD_COUNT takes another number."""

import os
import time

import pytest

from load import Load
from mta import free_port
from trickle import Trickle

COUNT = int(os.environ.get("MTA_FLOOD_COUNT", "500000"))


def rounds(mta, count, trickle, seconds):
    """Until everything was tried three times more. Prints what happens."""
    begun = time.monotonic()
    first = mta.ctl("status")["retried"]
    memory, peak = 0, 0
    while True:
        time.sleep(5)
        status = mta.ctl("status")
        peak = max(peak, mta.anonymous_kib())
        memory = max(memory, status["in_memory"])
        print(f"{time.monotonic() - begun:.0f} s: retried {status['retried']} in memory {status['in_memory']} "
              f"fresh {status['queue']['fresh'] if 'queue' in status else status['fresh']} {peak / 1024:.1f} MiB "
              f"trickle {trickle.latest()}", flush=True)
        if status["retried"] - first >= 3 * count:
            break
        assert time.monotonic() - begun < seconds
    return memory, peak


@pytest.mark.parametrize("dead", ["refused", "silent"])
def test_half_a_million(start_mta, start_sink, start_peer, closing, dead):
    port = free_port()
    if dead == "silent":
        port = start_peer(script=[{"stage": "greeting", "silence": True}]).port
    trickle = None
    live = start_sink(on_event=lambda event: trickle and trickle.arrived(event))
    mta = start_mta({"routes": [{"match": {"recipients": ["live.example"]}, "to": [f"127.0.0.1:{live.port}"]},
                                {"to": [f"127.0.0.1:{port}"]}],
                     "timeouts": {"greeting": "1s"},
                     "retry": {"intervals": ["1m"], "expire": "1d"}}, build="release")
    trickle = closing(Trickle(mta, "bert@live.example", 0.05))
    trickle.start()
    begun = time.monotonic()
    load = closing(Load(mta, clients=100, count=COUNT, size=1000))
    while load.running():
        time.sleep(10)
        print(f"{time.monotonic() - begun:.0f} s: accepted {len(load.sent)} {mta.ctl('status')['in_memory']} in memory "
              f"{mta.anonymous_kib() / 1024:.1f} MiB trickle {trickle.latest()}", flush=True)
    load.finish()
    print(f"accepted {COUNT / (time.monotonic() - begun):.0f}/s; {trickle.summary()}", flush=True)
    memory, peak = rounds(mta, COUNT, trickle, 3600)
    trickle.stop()
    print(f"{dead}: {trickle.summary()}; at most {memory} units and {peak / 1024:.1f} MiB", flush=True)
    assert trickle.times(trickle.came)[-1] < 1.0 and peak < 64 * 1024
