#!/usr/bin/env python3
"""Many clients at once, in processes of their own. Each message carries its key as first header field, and what
was answered 250 is told, one JSON object a line, with the hash that peer.Sink takes of it.

    python3 load.py --port 587 --clients 50 --count 10000 --size 4096
Ends after `count` messages, or (count 0) when standard input ends. A lost connection is made again; a message whose
answer never came is told as "unsure" and not sent again.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

LINES = b"".join(b"%04d the quick brown fox jumps over the lazy dog and on\r\n" % n + (b"" if n % 7 else b".dot\r\n..\r\n")
                 for n in range(1100))


def parts(key, size):
    """The content as (header, block, times, rest): about `size` octets, dots not doubled yet."""
    head = (f"X-Test-Id: {key}\r\nFrom: <load@sender.example>\r\nTo: <bert@dest.example>\r\nSubject: load\r\n"
            f"Date: Wed, 25 Nov 2026 01:02:03 +0000\r\nMessage-ID: <{key}@sender.example>\r\n\r\n").encode()
    times, rest = divmod(max(size - len(head), 0), len(LINES))
    end = LINES.rfind(b"\r\n", 0, rest) + 2 if rest >= 80 else 0
    return head, LINES, times, LINES[:end] + b"end\r\n"


def stuffed(data):
    data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if data.startswith(b".") else data


def digest(key, size):
    head, block, times, rest = parts(key, size)
    whole = hashlib.sha256(head)
    for _ in range(times):
        whole.update(block)
    whole.update(rest)
    return whole.hexdigest()


class Client(threading.Thread):
    def __init__(self, args, keys, tell):
        super().__init__(daemon=True)
        self.args, self.keys, self.tell = args, keys, tell
        self.sock = None

    def run(self):
        while True:
            key = self.keys()
            if key is None:
                break
            self.one(key)
        if self.sock is not None:
            self.sock.close()

    def one(self, key):
        sent = False
        try:
            if self.sock is None:
                self.open()
            self.sock.sendall(b"MAIL FROM:<load@sender.example>\r\nRCPT TO:<%s>\r\nDATA\r\n"
                              % self.args.recipient.encode())
            for code in (b"250", b"250", b"354"):
                self.reply(code)
            head, block, times, rest = parts(key, self.args.size)
            self.sock.sendall(stuffed(head))
            block = stuffed(block)
            for _ in range(times):
                self.sock.sendall(block)
            rest = stuffed(rest)
            sent = True
            self.sock.sendall(rest + b".\r\n")
            self.reply(b"250")
            self.tell({"sent": key})
        except (OSError, EOFError, ValueError) as failure:
            if self.sock is not None:
                self.sock.close()
                self.sock = None
            if isinstance(failure, ValueError):
                self.tell({"refused": key, "reply": str(failure)})
            elif sent:
                self.tell({"unsure": key})
            time.sleep(0.02)

    def open(self):
        self.sock = socket.create_connection((self.args.address, self.args.port), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.reply(b"220")
        self.sock.sendall(b"EHLO load.sender.example\r\n")
        self.reply(b"250")

    def reply(self, code):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            if line[3:4] == b" ":
                break
        if not line.startswith(code):
            raise ValueError(line.decode("latin-1").strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--prefix", default="k")
    parser.add_argument("--recipient", default="bert@dest.example")
    args = parser.parse_args()
    lock, stop, number = threading.Lock(), threading.Event(), [0]

    def keys():
        with lock:
            if stop.is_set() or args.count and number[0] >= args.count:
                return None
            number[0] += 1
            return f"{args.prefix}{number[0]}"

    def tell(fact):
        with lock:
            print(json.dumps(fact), flush=True)

    clients = [Client(args, keys, tell) for _ in range(args.clients)]
    for client in clients:
        client.start()
    if not args.count:
        sys.stdin.read()
        stop.set()
    for client in clients:
        client.join()


class Load:
    """load.py as a child, in `processes` processes. sent: {key: digest}; unsure: keys; refused: [(key, reply)]."""

    def __init__(self, mta, clients=10, count=0, size=4096, processes=2, recipient="bert@dest.example"):
        self.size = size
        self.sent, self.unsure, self.refused = set(), set(), []
        self._children, self._threads = [], []
        for n in range(processes):
            command = ["/usr/bin/python3", os.path.abspath(__file__), "--address", mta.address, "--port",
                       str(mta.port), "--clients", str(clients // processes), "--count", str(count // processes),
                       "--size", str(size), "--prefix", f"p{n}-", "--recipient", recipient]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            thread = threading.Thread(target=self._read, args=(child,), daemon=True)
            thread.start()
            self._children.append(child)
            self._threads.append(thread)

    def _read(self, child):
        for line in child.stdout:
            fact = json.loads(line)
            if "sent" in fact:
                self.sent.add(fact["sent"])
            elif "unsure" in fact:
                self.unsure.add(fact["unsure"])
            else:
                self.refused.append((fact["refused"], fact["reply"]))

    def running(self):
        return any(child.poll() is None for child in self._children)

    def finish(self, seconds=120):
        """No further messages; wait for what is under way."""
        for child in self._children:
            child.stdin.close()
        for child, thread in zip(self._children, self._threads):
            child.wait(seconds)
            thread.join(10)
            child.stdout.close()

    def stop(self):
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.wait()

    def digest(self, key):
        return digest(key, self.size)


if __name__ == "__main__":
    main()
