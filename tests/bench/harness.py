"""What the benchmarks of the daemon share: figures with limits, processes, a build. For `depth` and `connections`."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


# ---- small things

def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def fields(line):
    return {key: float(value) if re.fullmatch(r"-?[\d.]+", value) else value
            for key, value in (pair.split("=", 1) for pair in line.split() if "=" in pair)}


def run(command, limit_s=7200):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, timeout=limit_s,
                          check=False)
    return done.returncode, done.stdout


class Table:
    """Figures as they come; those with a limit decide about the exit."""

    def __init__(self):
        self.rows = []

    def add(self, name, value, unit="", limit=None, least=False):
        good = limit is None or (value >= limit if least else value <= limit)
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        bound = "" if limit is None else f"{'>=' if least else '<='} {limit:g}"
        row = (name, text, unit, bound, "" if limit is None else "ok" if good else "MISSED")
        self.rows.append(row)
        say("  ".join(cell for cell in row if cell))

    def missed(self):
        return sum(row[4] == "MISSED" for row in self.rows)

    def print(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(5)]
        for row in self.rows:
            print("  ".join(cell.rjust(width) if i == 1 else cell.ljust(width)
                            for i, (cell, width) in enumerate(zip(row, widths))).rstrip())


# ---- processes

def memory_mib(pid):
    """@return (anonymous, all that is resident: files that are mapped too)"""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        kib = {key: int(rest.split()[0]) for key, rest in (line.split(":", 1) for line in status)
               if key in ("RssAnon", "VmRSS")}
    return kib.get("RssAnon", 0) / 1024, kib.get("VmRSS", 0) / 1024


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        columns = stat.read().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Samples a process: the highest memory, anonymous and in all."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak_mib, self.peak_all_mib, self.going = pid, 0.0, 0.0, True
        self.start()

    def run(self):
        while self.going:
            self.sample()
            time.sleep(0.05)

    def sample(self):
        try:
            anonymous, resident = memory_mib(self.pid)
            self.peak_mib = max(self.peak_mib, anonymous)
            self.peak_all_mib = max(self.peak_all_mib, resident)
        except OSError:
            self.going = False


class Daemon:
    """One mtad over a state folder."""

    def __init__(self, programs, folder, state, routes, port, listener=None, **changes):
        """programs: where mtad and mtactl are; folder: for its files; listener, changes: laid over its configuration"""
        self.bin, self.process, self.watch, self.port = programs, None, None, port
        self.log = folder / f"log.{port}"
        self.config = folder / f"mta.{port}.json"
        self.settings = {
            "hostname": "mta.sender.example", "user": "root", "state_dir": str(state),
            "control_socket": str(folder / f"control.{port}"),
            "listeners": [{"address": f"127.0.0.1:{port}", "role": "submission", "tls": "off", "auth": "off",
                           "trusted": ["127.0.0.0/8"], **(listener or {})}],
            "routes": routes,
            "dns": {"servers": ["127.0.0.1:9"]},
            "retry": {"intervals": ["10h"]},
            "queue": {"max_size": "200GiB"},
            "metrics": {"address": f"127.0.0.1:{port + 100}"},
            "log": {"format": "json", "level": "info", "to": str(self.log)},
            **changes,
        }
        self.write_config()

    def write_config(self):
        self.config.write_text(json.dumps(self.settings))

    def start(self):
        """@return the time just before it was started"""
        self.log.unlink(missing_ok=True)
        begun = time.monotonic()
        self.process = subprocess.Popen([str(self.bin / "mtad"), "--config", str(self.config)])
        self.watch = Watch(self.process.pid)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return begun
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"mtad ended with {self.process.returncode}: {self.log}") from None
                time.sleep(0.002)

    def stop(self, how=signal.SIGTERM):
        """@return seconds until it was gone"""
        begun = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(timeout=300)
        self.watch.going = False
        if how == signal.SIGTERM and self.process.returncode != 0:
            raise SystemExit(f"mtad ended with {self.process.returncode} at SIGTERM")
        return time.monotonic() - begun

    def cpu_s(self):
        return cpu_s(self.process.pid)

    def ctl(self, *arguments):
        """@return (milliseconds, output)"""
        begun = time.monotonic()
        code, output = run([self.bin / "mtactl", "--config", self.config, *arguments])
        took_ms = (time.monotonic() - begun) * 1e3
        if code != 0:
            raise SystemExit(f"mtactl {' '.join(arguments)}: exit {code}")
        return took_ms, output

    def status(self):
        return json.loads(self.ctl("--json", "status")[1])

    def wait_status(self, what, limit_s=1800):
        """@return the seconds until what(status) held"""
        begun = time.monotonic()
        while not what(self.status()):
            if time.monotonic() - begun > limit_s:
                raise SystemExit("waited in vain for the queue")
            time.sleep(0.2)
        return time.monotonic() - begun


class Sink:
    def __init__(self, programs, port):
        self.lines = []
        self.process = subprocess.Popen([str(programs / "depth_sink"), str(port)], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.split())

    def first(self, limit_s=60):
        """@return when (monotonic clock) the first message was taken"""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            for line in list(self.lines):
                if line[0] == "first":
                    return float(line[1])
            time.sleep(0.01)
        return float("inf")

    def stop(self):
        """@return how many messages it took"""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.reader.join(timeout=10)
        return next(int(line[1]) for line in self.lines if line[0] == "taken")


# ---- the whole

def build(targets):
    """@return the build to be measured"""
    if os.environ.get("MTA_BUILD"):
        return pathlib.Path(os.environ["MTA_BUILD"]).resolve()
    for command in (["cmake", "--preset", "release", "-DMTA_TESTS=ON"],
                    ["cmake", "--build", "--preset", "release", "--target", "mtad", "mtactl", *targets]):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode != 0:
            raise SystemExit(done.stdout[-3000:])
    return ROOT / "build/release"


def enter_namespace(script, mark):
    """Run the script again in namespaces of its own: nothing leaves the machine, and what it started ends with it."""
    if os.environ.get(mark) is None:
        os.environ[mark] = "1"
        os.execvp("unshare", ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                              str(script), *sys.argv[1:]])
