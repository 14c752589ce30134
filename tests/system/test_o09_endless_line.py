"""Case O09: a line without an end, as a command or in a message, costs no memory and breaks nothing else."""

import threading

import pytest

from mta import message
from rawclient import Raw

MIB = b"A" * (1024 * 1024)
BOUND_KIB = 64 * 1024  # for 50 such connections; at most 64 KiB of input and some output each


def endless_command(mta, mebibytes):
    with Raw(mta, timeout=60) as client:
        client.command("EHLO client.sender.example", 250)
        try:
            for _ in range(mebibytes):
                client.send(MIB)
            client.send(b"\r\nNOOP\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # closed: allowed
        client.expect(500, "5.5.2")
        client.expect(250)


def endless_content(mta, mebibytes):
    with Raw(mta, timeout=60) as client:
        client.envelope()
        client.send(message())
        for _ in range(mebibytes):
            client.send(MIB)
        client.send(b"\r\n.\r\n")
        code, _ = client.reply()
        assert 500 <= code <= 599
        client.command("NOOP", 250)


@pytest.mark.parametrize("attack", [endless_command, endless_content])
def test_one_of_200_mib(start_mta, attack):
    mta = start_mta(build="release")
    before = mta.anonymous_kib()
    attack(mta, 200)
    assert mta.anonymous_kib() - before < 24 * 1024
    assert mta.queued() == 0


@pytest.mark.parametrize("build", ["release", "address"])
def test_fifty_at_once(start_mta, build):
    mta = start_mta(build=build)
    before = mta.anonymous_kib()
    failures = []

    def run(number):
        try:
            (endless_command if number % 2 else endless_content)(mta, 4)
        except (AssertionError, OSError, EOFError) as failure:
            failures.append(repr(failure))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    highest = 0
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, mta.anonymous_kib())
        threads[0].join(0.02)
        threads = [thread for thread in threads if thread.is_alive()] or threads[:1]
    assert not failures, failures
    if build == "release":
        assert highest - before < BOUND_KIB
    assert mta.queued() == 0
