#!/usr/bin/env python3
"""A scripted SMTP server for what real ones never do, and a fast sink. Standard library only.

Peer(address, port, tls=(cert, key), script=[rule, ...]) runs in threads; RemotePeer(netns, ...) is the same in a process of
its own inside a network namespace. Both hand out one Record: connections, messages, counters, wait_for(). By hand:
    python3 peer.py --port 2525 --script '[{"stage": "rcpt", "address": "b@x", "reply": "550 5.1.1 no"}]'
    python3 peer.py --port 2525 --sink
prints one JSON object a line for each thing seen; a JSON line {"script": [...]} on standard input replaces the script.

A rule is a dict; the first that matches decides. When it applies:
    stage        greeting ehlo helo starttls tls mail rcpt data content dot rset quit noop other idle
    connection   only on the n-th connection (from 1)          transaction  only in its n-th MAIL
    address      only for this mailbox (mail, rcpt; any case)  index        only for the n-th RCPT of the transaction (from 1)
    times        at most so often                              when         a function (session) -> bool
What it does (nothing of it: as usual):
    reply        the text, one line or several ("250-a\\r\\n250 b"), CRLF is added; a list stands for many lines of one reply:
                 ["250", "a", "b"]; None: no reply
    raw          sent exactly, as latin-1: garbage, half lines
    delay        seconds before it                             pieces       octets at a time, `interval` seconds between
    close        then FIN      reset  then RST                 silence      no reply ever, the connection stays open
    accept       dot only: count the message as taken whatever the reply
    after        content: once so many octets have come; idle: after so many seconds without a command
    read_bytes   content: read at most so many octets each `interval` seconds        stop_reading  content: read no more
    call         a function (session, rule) -> another such dict, or None: as usual
At stage tls `raw`, `close`, `reset`, `silence` come instead of the handshake.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time

from peer_record import Record
from peer_serving import EXTENSIONS, listen, server_context
from peer_session import Session
from sink import Sink


class Peer:
    """The scripted server. Port 0 takes a free one (see .port). Use as a context manager, or stop()."""

    def __init__(self, address="127.0.0.1", port=0, tls=None, script=(), *, name="peer.example", extensions=EXTENSIONS,
                 extensions_tls=None, implicit=False, tls_minimum=None, tls_maximum=None, ciphers=None,
                 receive_buffer=None, on_event=None):
        self.record = Record()
        self.name = name
        self.extensions = list(extensions)
        self.extensions_tls = list(extensions if extensions_tls is None else extensions_tls)
        self.implicit = implicit
        self.context = server_context(tls, tls_minimum, tls_maximum, ciphers) if tls else None
        self.on_event = on_event
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.sessions = []
        self.script(script)
        self.listener = listen(address, port, receive_buffer)
        self.address, self.port = self.listener.getsockname()[:2]
        self.emit({"event": "listening", "address": self.address, "port": self.port})
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()

    # What tests ask most, without the detour.
    @property
    def connections(self):
        return self.record.connections

    @property
    def messages(self):
        return self.record.messages

    def wait_for(self, predicate, timeout=10):
        return self.record.wait_for(predicate, timeout)

    def accepted(self, recipient=None):
        return self.record.accepted(recipient)

    def copies(self, header="X-Test-Id"):
        return self.record.copies(header)

    def script(self, rules):
        """Replace the script; sessions under way go on by the new one."""
        with self.lock:
            self.rules = [dict(rule) for rule in rules]
            self.uses = {id(rule): 0 for rule in self.rules}

    def rule(self, session, stage, facts):
        with self.lock:
            for rule in self.rules:
                if rule["stage"] == stage and self.applies(rule, session, facts):
                    if stage != "idle":  # counted when its time comes
                        self.uses[id(rule)] += 1
                    break
            else:
                return None
        return rule["call"](session, rule) if "call" in rule else rule

    def use(self, rule):
        with self.lock:
            if id(rule) in self.uses:
                self.uses[id(rule)] += 1

    def applies(self, rule, session, facts):
        return (rule.get("connection") in (None, session.number)
                and rule.get("transaction") in (None, session.transaction)
                and rule.get("index") in (None, facts.get("index"))
                and ("address" not in rule or rule["address"].lower() == facts.get("address", "").lower())
                and ("times" not in rule or self.uses[id(rule)] < rule["times"])
                and ("when" not in rule or rule["when"](session)))

    def emit(self, event):
        self.record.apply(event)
        if self.on_event is not None:
            self.on_event(event)

    def accept(self):
        number = 0
        while True:
            try:
                sock, address = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number += 1
            session = Session(self, sock, number, address[0])
            session.emit("connect", address=address[0])
            thread = threading.Thread(target=session.run, daemon=True)
            with self.lock:
                self.sessions = [(s, t) for s, t in self.sessions if t.is_alive() or t.ident is None]
                self.sessions.append((session, thread))
            thread.start()

    def stop_listening(self):
        """Refuse connections from now on; those that stand go on."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(5)

    def stop(self):
        self.stopping.set()
        self.stop_listening()
        with self.lock:
            sessions = list(self.sessions)
        for session, thread in sessions:
            try:
                session.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            thread.join(5)


# ---- a process of its own ------------------------------------------------------------------------------------


class RemotePeer:
    """Peer in a process inside the network namespace netns (None: this one). Same Record, no functions in the script.

    arguments: more of the command line, e.g. ["--extensions", "PIPELINING,SIZE 1000"].
    """

    def __init__(self, netns=None, address="0.0.0.0", port=25, tls=None, script=(), arguments=()):
        self.record = Record()
        command = ["ip", "netns", "exec", netns] if netns else []
        command += [sys.executable, os.path.abspath(__file__), "--address", address, "--port", str(port)]
        command += ["--script", json.dumps(list(script)), "--until-eof", *arguments]
        if tls:
            command += ["--cert", str(tls[0]), "--key", str(tls[1])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        try:
            self.record.wait_for(lambda record: record.listening)
        except AssertionError:
            self.stop()
            raise
        self.address, self.port = self.record.listening

    def read(self):
        for line in self.process.stdout:
            self.record.apply(json.loads(line))

    def script(self, rules):
        self.process.stdin.write(json.dumps({"script": list(rules)}) + "\n")
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.thread.join(5)
        self.process.stdout.close()

    __enter__ = Peer.__enter__
    __exit__ = Peer.__exit__
    connections = Peer.connections
    messages = Peer.messages
    wait_for = Peer.wait_for
    accepted = Peer.accepted
    copies = Peer.copies


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--implicit", action="store_true", help="TLS from the first byte")
    parser.add_argument("--name", default="peer.example")
    parser.add_argument("--script", "--json-script", default="[]", help="JSON list of rules, or @FILE")
    parser.add_argument("--extensions", default=",".join(EXTENSIONS), help="comma list; empty for none")
    parser.add_argument("--extensions-tls", help="the list after STARTTLS; default: the same")
    parser.add_argument("--tls-maximum", help="e.g. TLSv1_2")
    parser.add_argument("--receive-buffer", type=int)
    parser.add_argument("--sink", action="store_true", help="take everything, print hashes")
    parser.add_argument("--key-header", default="X-Test-Id")
    parser.add_argument("--skip-lines", type=int)
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    return parser.parse_args()


def extension_list(text):
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]


def main():
    args = arguments()
    lock = threading.Lock()

    def show(event):
        with lock:
            print(json.dumps(event), flush=True)

    tls = (args.cert, args.key) if args.cert else None
    if args.sink:
        server = Sink(args.address, args.port, tls, key_header=args.key_header, skip_lines=args.skip_lines,
                      extensions=extension_list(args.extensions), on_event=show)
    else:
        text = args.script
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        server = Peer(args.address, args.port, tls, json.loads(text), name=args.name, implicit=args.implicit,
                      extensions=extension_list(args.extensions), extensions_tls=extension_list(args.extensions_tls),
                      tls_maximum=args.tls_maximum, receive_buffer=args.receive_buffer, on_event=show)
    try:
        for line in sys.stdin:
            command = json.loads(line)
            if "script" in command and not args.sink:
                server.script(command["script"])
        while not args.until_eof:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


if __name__ == "__main__":
    main()
