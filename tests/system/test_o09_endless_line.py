"""Case O09: a line without an end, as a command, as an answer of AUTH or in a message, costs no memory and breaks nothing
else."""

import threading

import pytest

from logins import plain, write_users
from mta import message
from rawclient import Raw

MIB = b"A" * (1024 * 1024)
BOUND_KIB = 64 * 1024  # for 50 such connections; at most 64 KiB of input and some output each


def endless_command(mta, mebibytes, at_each=lambda: None):
    with Raw(mta, timeout=60) as client:
        client.command("EHLO client.sender.example", 250)
        try:
            for _ in range(mebibytes):
                client.send(MIB)
                at_each()
            client.send(b"\r\nNOOP\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # closed: allowed
        client.expect(500, "5.5.2")
        client.expect(250)


def endless_answer(mta, mebibytes, at_each=lambda: None):
    with Raw(mta, timeout=60) as client:
        client.command("EHLO client.sender.example", 250, "AUTH ")
        client.command("AUTH PLAIN", 334)
        for _ in range(mebibytes):
            client.send(MIB)
            at_each()
        client.send(b"\r\n")
        client.expect(500, "5.5.6")
        client.command("AUTH PLAIN " + plain("anna", "secret"), 235)


def endless_content(mta, mebibytes, at_each=lambda: None):
    with Raw(mta, timeout=60) as client:
        client.envelope()
        client.send(message())
        for _ in range(mebibytes):
            client.send(MIB)
            at_each()
        client.send(b"\r\n.\r\n")
        code, _ = client.reply()
        assert 500 <= code <= 599
        client.command("NOOP", 250)


ATTACKS = [endless_command, endless_answer, endless_content]


@pytest.fixture
def start(start_mta, tmp_path):
    users = write_users(tmp_path / "users", {"anna": "secret"})
    return lambda build: start_mta({"users_file": str(users)}, build=build, listener={"auth": "optional"})


def test_one_of_200_mib(start):
    mta = start("release")
    before = mta.anonymous_kib()
    for attack in ATTACKS:
        seen = [before]
        attack(mta, 200, lambda: seen.append(mta.anonymous_kib()))
        assert max(seen) - before < 24 * 1024, attack
    assert mta.queued() == 0


@pytest.mark.parametrize("build", ["release", "address"])
def test_fifty_at_once(start, build):
    mta = start(build)
    before = mta.anonymous_kib()
    failures = []

    def run(number):
        try:
            ATTACKS[number % 3](mta, 4)
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
