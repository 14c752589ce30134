"""Guesses are answered late, and the right password all the same soon; mtactl user, while mtad runs."""

import concurrent.futures
import os
import pty
import signal
import smtplib
import subprocess
import termios
import time

import pytest
from logins import plain, write_users


@pytest.fixture
def mta(start_mta, tmp_path):
    users = write_users(tmp_path / "users", {"bob": "secret", "eve": "hers"})
    return start_mta({"users_file": str(users)}, listener={"auth": "optional", "trusted": []})


def log_in(mta, name, password):
    """(code, seconds)"""
    with mta.smtp() as session:
        session.ehlo()
        begun = time.monotonic()
        code, _ = session.docmd("AUTH", "PLAIN " + plain(name, password))
        return code, time.monotonic() - begun


def test_answers_to_guesses_take_longer(mta):
    times = []
    for _ in range(3):
        code, seconds = log_in(mta, "bob", "guess")
        assert code == 535
        times.append(seconds)
    assert times[0] >= 0.5 and times[1] >= 1 and times[2] >= 2, times
    assert log_in(mta, "eve", "hers")[0] == 235


def test_the_right_one_gets_in_among_guesses(mta):
    with concurrent.futures.ThreadPoolExecutor(20) as guessers:
        guesses = [guessers.submit(log_in, mta, "bob", f"guess{i}") for i in range(20)]
        time.sleep(0.3)
        code, seconds = log_in(mta, "eve", "hers")
        assert code == 235 and seconds < 2, seconds
        code, seconds = log_in(mta, "bob", "secret")
        assert code == 235 and seconds < 3, seconds
        mta.stop()  # not after what the last guess would have waited for
        for guess in guesses:
            try:
                code, _ = guess.result()
            except (smtplib.SMTPException, OSError):
                continue
            assert code in (535, 454, 421)


def user(mta, *arguments, password=None):
    done = subprocess.run([mta.program("mtactl"), "--config", str(mta.config_path), "user", *arguments], timeout=30,
                          input=(password or "") + "\n", capture_output=True, text=True, env=mta.environment())
    return done.returncode, (done.stdout + done.stderr).strip()


def test_users_come_and_go(mta, tmp_path):
    assert user(mta, "add", "dora", "--sender", "@shop.example", password="a pass phrase") == (0, "dora added")
    assert log_in(mta, "dora", "a pass phrase")[0] == 235
    assert user(mta, "list")[1].split() == ["bob", "*", "dora", "@shop.example", "eve", "*"]
    assert user(mta, "add", "dora", password="another") == (0, "dora changed")
    assert log_in(mta, "dora", "a pass phrase")[0] == 535
    assert log_in(mta, "dora", "another")[0] == 235
    assert user(mta, "remove", "dora") == (0, "dora removed")
    assert log_in(mta, "dora", "another")[0] == 535
    assert user(mta, "remove", "dora")[0] == 1
    told = mta.log() + (tmp_path / "users").read_text()
    for secret in ("a pass phrase", "another", plain("dora", "another")):
        assert secret not in told


@pytest.mark.parametrize("end", [b"\x03", signal.SIGTERM], ids=["interrupted", "terminated"])
def test_a_terminal_shows_what_is_typed_afterwards(mta, end):
    """Asked for a password, which is not shown, somebody thinks better of it."""
    ours, theirs = pty.openpty()

    def echoes():
        return bool(termios.tcgetattr(theirs)[3] & termios.ECHO)

    def at_a_terminal_of_its_own():
        os.close(os.open(os.ttyname(0), os.O_RDWR))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background

    with subprocess.Popen([mta.program("mtactl"), "--config", str(mta.config_path), "user", "add", "dora"], stdin=theirs,
                          stdout=theirs, stderr=theirs, start_new_session=True, env=mta.environment(),
                          preexec_fn=at_a_terminal_of_its_own) as asking:
        shown, deadline = b"", time.monotonic() + 20
        while b"Password: " not in shown:
            shown += os.read(ours, 1000)
        while echoes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.write(ours, b"half a pass")
        if end == b"\x03":
            os.write(ours, end)
        else:
            asking.send_signal(end)
        assert asking.wait(20) == (-signal.SIGINT if end == b"\x03" else -end)
        assert echoes()
    os.close(ours)
    os.close(theirs)
    assert user(mta, "list")[1].split() == ["bob", "*", "eve", "*"]
