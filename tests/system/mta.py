"""The daemon as the tests see it: a configuration, a process, its log, mtactl. Nothing of its inside."""

import datetime
import itertools
import json
import os
import pathlib
import re
import signal
import smtplib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MTA_BUILD") or ROOT / "build").resolve()
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=66:second_deadlock_stack=1:halt_on_error=0",
}


def _ports():
    """Ports below the range that outgoing connections take, apart for each worker of pytest-xdist."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    first = 10000 + worker * 2500
    while True:
        for port in range(first, first + 2500):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", port))
                except OSError:
                    continue
            yield port


_port_source = _ports()


def free_port():
    return next(_port_source)


def merged(base, changes):
    """changes laid over base, maps into maps; None takes a key away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Mta:
    """One mtad. `config` is laid over what every test wants; start() waits until it listens.

    build    address | thread | release: which binaries
    listener laid over the one listener
    host     a net.Host to run on
    wrapper  a command line in front of the program (strace, faketime)
    """

    _count = itertools.count(1)

    def __init__(self, folder, config=None, build=None, host=None, wrapper=(), env=None,
                 address="127.0.0.1", port=None, listener=None):
        self.folder = pathlib.Path(folder) / f"mta{next(self._count)}"
        self.folder.mkdir(parents=True)
        self.build = build or os.environ.get("MTA_TEST_BUILD") or "address"
        self.host = host
        self.wrapper = list(wrapper)
        self.env = dict(env or {})
        self.address = address
        self.port = port or free_port()
        self.process = None
        self.config_path = self.folder / "mta.yaml"
        self.log_path = self.folder / "log"
        self.torn = {""}  # what kill -9 left of lines of the log
        self.state = self.folder / "state"
        self.config = merged({
            "hostname": "mta.sender.example",
            "user": "root",
            "state_dir": str(self.state),
            "listeners": [{"address": [f"{self.address}:{self.port}"], "role": "submission",
                           "tls": "off", "auth": "off",
                           "trusted": ["127.0.0.0/8", "::1", "192.0.2.0/24"]}],
            "dns": {"servers": ["127.0.0.1:9"]},
            "retry": {"intervals": ["1s"]},
            "log": {"format": "json", "level": "info", "to": "stderr"},
        }, config or {})
        self.config["listeners"][0].update(listener or {})
        self.write_config()

    # ---- the process

    def program(self, name):
        given = os.environ.get(name.upper()) if self.build == "address" else None
        return given or str(BUILD / self.build / "bin" / name)

    def write_config(self, changes=None):
        self.config = merged(self.config, changes or {})
        self.config_path.write_text(json.dumps(self.config, indent=1))

    def environment(self):
        env = dict(os.environ)
        for key, value in SANITIZERS.items():
            env[key] = f"{value}:log_path={self.folder}/sanitizer"
        env.update(self.env)
        return env

    def command(self, *arguments):
        command = self.wrapper + [self.program("mtad"), "--config", str(self.config_path), *arguments]
        return self.host.wrap(command) if self.host else command

    def spawn(self):
        """Start, without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment())
        return self

    def start(self, seconds=20):
        starts = len(self.events("start"))
        self.spawn()
        end = time.monotonic() + seconds
        while len(self.events("start")) == starts or not self._listens():
            if self.process.poll() is not None:
                raise AssertionError(f"mtad ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > end:
                raise AssertionError("mtad does not come up:\n" + self.log())
            time.sleep(0.02)
        return self

    def _listens(self):
        try:
            self.connect(timeout=1).close()
        except OSError:
            return False
        return True

    def run_once(self, *arguments, seconds=30):
        """mtad in the foreground until it ends by itself. Returns (exit code, what it said)."""
        done = subprocess.run(self.command(*arguments), env=self.environment(), timeout=seconds,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode(errors="replace")

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None
        self.torn.add(self.log().split("\n")[-1])  # a line that was being written

    def wait_exit(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"mtad still runs after {seconds} s:\n{self.log()}") from None

    def stop(self, seconds=45, expect=0):
        """SIGTERM, and everything that must hold at the end. Returns how long it took."""
        if self.process is None:
            return 0.0
        begun = time.monotonic()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait_exit(seconds)
        except AssertionError:
            self.kill()
            raise
        finally:
            self.check_sanitizers()
        took = time.monotonic() - begun
        self.process = None
        assert code == expect, f"mtad ended with {code}:\n{self.log()[-4000:]}"
        return took

    def check_sanitizers(self):
        reports = sorted(self.folder.glob("sanitizer*"))
        said = "\n".join(path.read_text(errors="replace") for path in reports)
        assert not said, f"sanitizer: {said[:8000]}"

    def anonymous_kib(self):
        """RssAnon of the process, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        raise AssertionError("no RssAnon")

    # ---- its log

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def events(self, event=None, **facts):
        """The events so far, filtered. Each line must be one JSON object or, before the log opens, plain text;
        what a kill cut off stands on a line of its own."""
        found = []
        for line in self.log().split("\n")[:-1]:
            if not line.startswith("{") or line in self.torn:
                continue
            record = json.loads(line)
            if event is not None and record.get("event") != event:
                continue
            if all(record.get(key) == value for key, value in facts.items()):
                found.append(record)
        return found

    def wait_event(self, event, count=1, seconds=20, **facts):
        """The count-th such event, waiting for it."""
        end = time.monotonic() + seconds
        while True:
            found = self.events(event, **facts)
            if len(found) >= count:
                return found[count - 1]
            if time.monotonic() > end:
                raise AssertionError(f"no {event} {facts} ({len(found)} of {count}):\n{self.log()[-8000:]}")
            if self.process and self.process.poll() is not None:
                raise AssertionError(f"mtad ended with {self.process.returncode}:\n{self.log()[-8000:]}")
            time.sleep(0.03)

    # ---- its clients

    def connect(self, timeout=20):
        """A TCP connection to the listener."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        if self.host:
            with self.host.entered():
                sock = socket.socket(family)
        else:
            sock = socket.socket(family)
        sock.settimeout(timeout)
        try:
            sock.connect((self.address, self.port))
        except OSError:
            sock.close()
            raise
        return sock

    def smtp(self, timeout=30):
        """A smtplib session, greeting read."""
        session = smtplib.SMTP(timeout=timeout, local_hostname="client.sender.example")
        session._get_socket = lambda *unused: self.connect(timeout)
        session._host = self.address
        code, text = session.connect(self.address, self.port)
        assert code == 220, (code, text)
        return session

    def submit(self, recipients, content=None, sender="anna@sender.example", **headers):
        """Hand in one message; returns its queue id."""
        if isinstance(recipients, str):
            recipients = [recipients]
        if content is None:
            content = message(sender, recipients[0], **headers)
        with self.smtp() as session:
            session.ehlo_or_helo_if_needed()
            code, text = session.mail(sender)
            assert code == 250, (code, text)
            for recipient in recipients:
                code, text = session.rcpt(recipient)
                assert code == 250, (recipient, code, text)
            return queued_id(*data(session, content))

    # ---- mtactl

    def ctl_run(self, *arguments, seconds=30, program=None):
        command = [program or self.program("mtactl"), "--config", str(self.config_path), *arguments]
        if self.host:
            command = self.host.wrap(command)
        return subprocess.run(command, env=self.environment(), timeout=seconds, stdin=subprocess.DEVNULL,
                              capture_output=True)

    def ctl(self, *arguments, program=None):
        """mtactl --json: one object (status, show ...) or, for listings, a list of them."""
        done = self.ctl_run("--json", *arguments, program=program)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line.strip()]
        return lines if arguments[0] in ("list", "summary") else lines[0] if lines else None

    def look(self, *arguments):
        """The same for those who ask again and again: with sanitizers mtactl needs ten times as long to start."""
        release = BUILD / "release" / "bin" / "mtactl"
        return self.ctl(*arguments, program=str(release) if release.exists() else None)

    def queued(self):
        return self.look("status")["queued"]

    def wait_for_sessions(self, count, seconds=10):
        """Until so many clients are connected."""
        end = time.monotonic() + seconds
        while self.ctl("status")["sessions"] != count:
            assert time.monotonic() < end, self.ctl("status")
            time.sleep(0.05)

    def wait_empty(self, seconds=30):
        """Until no message is left in the queue."""
        end = time.monotonic() + seconds
        while self.queued():
            if time.monotonic() > end:
                raise AssertionError(f"still queued: {self.ctl('list')}\n{self.log()[-8000:]}")
            time.sleep(0.05)

    def wait_show(self, identity, predicate, seconds=20):
        """`mtactl show` of a message, as soon as predicate(it) holds."""
        end = time.monotonic() + seconds
        while True:
            shown = self.look("show", identity)
            if predicate(shown):
                return shown
            if time.monotonic() > end:
                raise AssertionError(f"mtactl show: {shown}\n{self.log()[-8000:]}")
            time.sleep(0.05)


def message(sender="anna@sender.example", recipient="bert@dest.example", subject="Hello", body="Hello.\r\n",
            **headers):
    """A message with CRLF; further fields by keyword, e.g. X_Test_Id="7", which come first."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"From: <{sender or 'mailer-daemon@sender.example'}>", f"To: <{recipient}>", f"Subject: {subject}",
              "Date: Wed, 25 Nov 2026 01:02:03 +0000", f"Message-ID: <{time.time_ns()}@sender.example>"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def data(session, content):
    """DATA with exactly these bytes (dots are doubled here). Returns (code, text)."""
    code, text = session.docmd("DATA")
    assert code == 354, (code, text)
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    session.send(stuffed + b".\r\n")
    return session.getreply()


def queued_id(code, text):
    """The id in "250 2.0.0 ... queued as ID"."""
    match = re.search(rb"queued as ([0-9A-HJKMNP-TV-Z]{13})", text)
    assert code == 250 and match, (code, text)
    return match.group(1).decode()


def event_time(record):
    return datetime.datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
