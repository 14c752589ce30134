"""A small Internet: each Host is a network and mount namespace of its own, all on one bridge.

A host lives as long as the process that holds its namespaces; that process ends when this one does
(its standard input closes), and the kernel then takes down everything with it. Nothing is named, nothing
is left behind, and the machine's own network is never touched.
"""

import contextlib
import ctypes
import ipaddress
import os
import subprocess

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """A machine. `contained`: also a process namespace, so that a server's children end with it."""

    def __init__(self, name, contained=False):
        self.name = name
        self.contained = contained
        command = ["unshare", "--net", "--mount"]
        if contained:
            command += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        script = "ip link set lo up && echo up && exec cat"
        self._holder = subprocess.Popen(command + ["sh", "-c", script],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._holder.stdout.readline() != b"up\n":
            raise RuntimeError("no namespaces for host " + name)
        self.pid = self._holder.pid
        if contained:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
                self.pid = int(file.read().split()[0])

    def wrap(self, command):
        """The command line that runs `command` on this host, under the same process id."""
        enter = ["nsenter", "-t", str(self.pid), "--net", "--mount", "--root"]
        return enter + (["--pid"] if self.contained else []) + list(command)

    def run(self, *command, **options):
        options.setdefault("check", True)
        options.setdefault("timeout", 60)
        return subprocess.run(self.wrap(command), **options)

    def bind(self, source, target):
        """Lay a file over another, for this host only."""
        self.run("mount", "--bind", str(source), str(target))

    @contextlib.contextmanager
    def entered(self):
        """Sockets that this thread makes inside the block belong to this host."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)  # opened now: later it would be the host's
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            _setns(there)
            try:
                yield self
            finally:
                _setns(own)
        finally:
            os.close(own)
            os.close(there)

    def close(self):
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(timeout=10)


class Internet:
    """Hosts on one bridge. IPv4 addresses are routed flat: every host reaches every other."""

    def __init__(self):
        self._hosts = []
        self._hub = Host("hub")
        self._hub.run("ip", "link", "add", "br0", "type", "bridge")
        self._hub.run("ip", "link", "set", "br0", "up")

    def host(self, name, *addresses, contained=False):
        host = Host(name, contained)
        self._hosts.append(host)
        port = f"p{len(self._hosts)}"
        self._hub.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0",
                      "netns", str(host.pid))
        self._hub.run("ip", "link", "set", port, "master", "br0", "up")
        script = ["link set eth0 up"]
        families = set()
        for address in addresses:
            version = ipaddress.ip_address(address).version
            families.add(version)
            script.append(f"address add {address}/{32 if version == 4 else 128} dev eth0"
                          + (" nodad" if version == 6 else ""))
        if 4 in families:
            script.append("route add 0.0.0.0/0 dev eth0")
        if 6 in families:
            script.append("route add ::/0 dev eth0")
        host.run("ip", "-batch", "-", input="\n".join(script).encode())
        return host

    def close(self):
        for host in reversed(self._hosts):
            host.close()
        self._hub.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
