"""Very many messages for one server that is down, tried again and again: other mail does not notice, new mail for the
same server is tried too, memory stays bounded, and when the server comes up everything arrives once."""

import re
import time

import pytest

from load import Load
from mta import free_port
from peer import Sink
from prometheus import fetch
from trickle import Trickle

COUNT = 12000


@pytest.mark.heavy
@pytest.mark.timeout(180)
def test_flood_for_a_dead_server(start_mta, start_sink, closing):
    port, metrics = free_port(), free_port()
    trickle = None
    live = start_sink(on_event=lambda event: trickle and trickle.arrived(event))
    mta = start_mta({"routes": [{"match": {"recipients": ["live.example"]}, "to": [f"127.0.0.1:{live.port}"]},
                                {"to": [f"127.0.0.1:{port}"]}],
                     "delivery": {"units_in_memory": 1000}, "metrics": {"address": f"127.0.0.1:{metrics}"},
                     "retry": {"intervals": ["3s"], "expire": "1h"}}, build="release")
    trickle = closing(Trickle(mta, "bert@live.example", 0.05))
    trickle.start()
    load = closing(Load(mta, clients=40, count=COUNT, size=300))
    while load.running():
        time.sleep(0.1)
    load.finish()
    assert len(load.sent) == COUNT
    time.sleep(6)  # two rounds of everything
    status = mta.ctl("status")
    assert status["in_memory"] <= 1000, status
    page = fetch(f"127.0.0.1:{metrics}")[-1]
    assert float(re.search(r"^mta_queue_parked_units_total (\S+)$", page, re.MULTILINE)[1]) > 0, page
    new = mta.submit("carl@dest.example")
    mta.wait_event("deferred", id=new, seconds=6)
    trickle.stop()
    print(trickle.summary())
    assert trickle.times(trickle.came)[-1] < 1.0, trickle.summary()

    sink = closing(Sink(port=port))
    mta.wait_empty(seconds=60)
    assert sink.counts.keys() >= load.sent and set(sink.counts.values()) == {1}
