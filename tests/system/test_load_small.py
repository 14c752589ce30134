"""10,000 messages of 4 KiB from 50 clients: complete, once each, byte-exact, in bounded memory."""

import time

import pytest

from load import Load

LIMIT_KIB = 100 * 1024


def run(mta, load, sink, count, seconds):
    """Watch the memory until all has arrived. Returns the highest."""
    highest = 0
    end = time.monotonic() + seconds
    while len(sink.messages) < count and time.monotonic() < end:
        highest = max(highest, mta.anonymous_kib())
        time.sleep(0.02)
    load.finish()
    assert not load.refused and not load.unsure, (load.refused[:3], load.unsure)
    mta.wait_empty(seconds=60)
    highest = max(highest, mta.anonymous_kib())
    assert len(load.sent) == count and set(sink.counts) == load.sent
    assert set(sink.counts.values()) == {1}
    wrong = [message["key"] for message in sink.messages if message["sha256"] != load.digest(message["key"])]
    assert not wrong, wrong[:5]
    return highest


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_ten_thousand_small(start_mta, start_sink, closing, to_peer):
    sink = start_sink()
    mta = start_mta(to_peer(sink), build="release")
    begun = time.monotonic()
    load = closing(Load(mta, clients=50, count=10000, size=4096))
    highest = run(mta, load, sink, 10000, 240)
    print(f"{time.monotonic() - begun:.1f} s, at most {highest / 1024:.1f} MiB")
    assert highest < LIMIT_KIB


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_fifty_large(start_mta, start_sink, closing, to_peer):
    """The same with 50 of 20 MiB at once."""
    sink = start_sink()
    mta = start_mta(to_peer(sink), build="release")
    begun = time.monotonic()
    load = closing(Load(mta, clients=50, count=50, size=20 * 1024 * 1024))
    highest = run(mta, load, sink, 50, 240)
    print(f"{time.monotonic() - begun:.1f} s, at most {highest / 1024:.1f} MiB")
    assert min(message["size"] for message in sink.messages) > 19 * 1024 * 1024
    assert highest < LIMIT_KIB


@pytest.mark.heavy
def test_load_under_the_address_sanitizer(start_mta, start_sink, closing, to_peer, certificate):
    """2,000 over TLS with the sanitizers watching."""
    sink = start_sink(tls=certificate)
    mta = start_mta(to_peer(sink))
    load = closing(Load(mta, clients=50, count=2000, size=4096))
    run(mta, load, sink, 2000, 120)
    assert all(message["tls"] for message in sink.messages)
