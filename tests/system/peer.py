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
import base64
import hashlib
import json
import os
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")
LINE_MAX = 65536
GRACE_S = 1.0  # how long we wait for the other side to close after our FIN


# ---- what was seen -------------------------------------------------------------------------------------------


class Connection:
    """One connection as the peer saw it. Times are of time.monotonic()."""

    def __init__(self, event):
        self.number = event["connection"]
        self.address = event["address"]
        self.opened = event["time"]
        self.closed = None
        self.end = None        # "client closed", "reset by client", "closed", "reset", "stopped", "TLS: ..."
        self.lines = []        # (time, bytes without CRLF) of each command
        self.reads = []        # (time, bytes) as recv gave them, outside of content: shows what came in one write
        self.replies = []      # (time, stage, bytes)
        self.tls = None        # "TLSv1.3"
        self.cipher = None
        self.server_name = None
        self.messages = []

    def commands(self):
        return [line for _, line in self.lines]


class Message:
    """One message whose final dot was read."""

    def __init__(self, event):
        self.connection = event["connection"]
        self.transaction = event["transaction"]
        self.sender = event["sender"]
        self.parameters = event["parameters"]  # of MAIL: "SIZE=10 BODY=8BITMIME"
        self.recipients = event["recipients"]  # the accepted ones, in order
        self.refused = event["refused"]
        self.raw = base64.b64decode(event["raw"])          # as on the wire, dots doubled, without the final ".CRLF"
        self.content = base64.b64decode(event["content"])  # dots undone
        self.tls = event["tls"]
        self.reply = event["reply"]                        # what will be sent; None: nothing
        self.accepted = event["accepted"]
        self.mail_time = event["mail_time"]
        self.data_time = event["data_time"]
        self.dot_time = event["dot_time"]

    def header(self, name):
        """The first field of that name, unfolded, or None."""
        head = self.content.split(b"\r\n\r\n", 1)[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
        prefix = name.lower().encode() + b":"
        for line in head.split(b"\r\n"):
            if line.lower().startswith(prefix):
                return line[len(prefix):].strip().decode("latin-1")
        return None


class Record:
    """All that was seen, fed by events. Every method may be called from any thread."""

    def __init__(self):
        self.changed = threading.Condition()
        self.connections = []
        self.messages = []
        self.listening = None  # (address, port)

    def apply(self, event):
        with self.changed:
            self._apply(event)
            self.changed.notify_all()

    def _apply(self, event):
        kind = event["event"]
        if kind == "listening":
            self.listening = (event["address"], event["port"])
        elif kind == "connect":
            self.connections.append(Connection(event))
        if kind in ("listening", "connect"):
            return
        connection = self.connections[event["connection"] - 1]
        if kind == "line":
            connection.lines.append((event["time"], event["text"].encode("latin-1")))
        elif kind == "read":
            connection.reads.append((event["time"], event["text"].encode("latin-1")))
        elif kind == "reply":
            connection.replies.append((event["time"], event["stage"], event["text"].encode("latin-1")))
        elif kind == "tls":
            connection.tls, connection.cipher = event["version"], event["cipher"]
            connection.server_name = event["server_name"]
        elif kind == "message":
            message = Message(event)
            self.messages.append(message)
            connection.messages.append(message)
        elif kind == "end":
            connection.closed, connection.end = event["time"], event["how"]

    def wait_for(self, predicate, timeout=10):
        """Wait until predicate(record) is true. Returns its value; AssertionError with what was seen after timeout."""
        with self.changed:
            if self.changed.wait_for(lambda: predicate(self), timeout):
                return predicate(self)
            raise AssertionError(f"not within {timeout} s; seen:\n{self.describe()}")

    def accepted(self, recipient=None):
        """Messages taken (2xx to the dot was decided), for one recipient or all."""
        with self.changed:
            return [m for m in self.messages if m.accepted
                    and (recipient is None or recipient.lower() in [r.lower() for r in m.recipients])]

    def copies(self, header="X-Test-Id"):
        """{value of that header: {recipient: copies taken}}"""
        counts = {}
        for message in self.accepted():
            per_recipient = counts.setdefault(message.header(header), {})
            for recipient in message.recipients:
                per_recipient[recipient] = per_recipient.get(recipient, 0) + 1
        return counts

    def describe(self):
        with self.changed:
            out = []
            for c in self.connections:
                talk = [(t, "C", line) for t, line in c.lines] + [(t, "S", text) for t, _, text in c.replies]
                out.append(f"connection {c.number} from {c.address}, TLS {c.tls}, end: {c.end}")
                out += [f"  {t - c.opened:8.3f} {who}: {line!r}" for t, who, line in sorted(talk, key=lambda x: x[0])]
            out.append(f"{len(self.messages)} messages, {sum(m.accepted for m in self.messages)} accepted")
            return "\n".join(out)


# ---- one session ---------------------------------------------------------------------------------------------


class Over(Exception):
    """The connection is over; the text says how."""


def mailbox(argument):
    """("local@domain", "PARAMETERS") out of "<local@domain> PARAMETERS"."""
    if not argument.startswith("<"):
        return argument, ""
    end = argument.rfind(">")
    return argument[1:end], argument[end + 1:].strip()


class Session:
    def __init__(self, peer, sock, number, address):
        self.peer = peer
        self.sock = sock
        self.number = number
        self.address = address
        self.buffer = b""
        self.transaction = 0
        self.hello = False
        self.tls = None
        self.reset_transaction()

    def reset_transaction(self):
        self.sender = None
        self.parameters = ""
        self.recipients = []
        self.refused = []
        self.tried = 0
        self.mail_time = self.data_time = None

    def emit(self, kind, **fields):
        self.peer.emit({"event": kind, "connection": self.number, "time": time.monotonic(), **fields})

    # -- bytes

    def wait(self, seconds):
        if self.peer.stopping.wait(seconds):
            raise Over("stopped")

    def receive(self, size=65536, timeout=None):
        """Bytes, or None at the timeout."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(size)
        except socket.timeout:
            return None
        except ssl.SSLError as error:
            raise Over(f"TLS: {error.reason}") from None
        except OSError:
            raise Over("stopped" if self.peer.stopping.is_set() else "reset by client") from None
        if not data:
            raise Over("stopped" if self.peer.stopping.is_set() else "client closed")
        return data

    def read_line(self, timeout=None):
        while b"\n" not in self.buffer:
            if len(self.buffer) > LINE_MAX:
                raise Over("line too long")
            data = self.receive(timeout=timeout)
            if data is None:
                return None
            self.emit("read", text=data.decode("latin-1"))
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        line = line.rstrip(b"\r")
        self.emit("line", text=line.decode("latin-1"))
        return line.decode("latin-1")

    def send(self, data, piece=None, interval=0):
        try:
            self.sock.settimeout(60)
            if piece is None:
                self.sock.sendall(data)
                return
            for at in range(0, len(data), piece):
                self.sock.sendall(data[at:at + piece])
                self.wait(interval)
        except (OSError, ssl.SSLError):
            raise Over("reset by client") from None

    def close(self, reset):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Over("reset")
        try:  # a FIN, not the RST that unread bytes would make of it
            self.sock.settimeout(GRACE_S)
            self.sock.shutdown(socket.SHUT_WR)
            end = time.monotonic() + GRACE_S
            while time.monotonic() < end and socket.socket.recv(self.sock, 65536):  # under TLS: its bytes as they are
                pass
        except OSError:
            pass
        raise Over("closed")

    def silence(self):
        while not self.peer.stopping.is_set():
            self.receive(timeout=0.2)
        raise Over("stopped")

    # -- rules

    def rule(self, stage, **facts):
        return self.peer.rule(self, stage, facts)

    @staticmethod
    def reply_bytes(reply):
        if isinstance(reply, list):
            code, lines = reply[0], reply[1:]
            reply = "\r\n".join(code + ("-" if i + 1 < len(lines) else " ") + text for i, text in enumerate(lines))
        return reply.encode("latin-1") + b"\r\n"

    def answer(self, stage, rule, usual):
        """Do what the rule says, or reply as usual. Returns the reply's first digit, "" if there was none."""
        rule = rule or {}
        ends = rule.get("close") or rule.get("reset")
        reply = rule.get("reply", None if ends or "raw" in rule else usual)
        if rule.get("delay"):
            self.wait(rule["delay"])
        if rule.get("silence"):
            self.silence()
        data = rule["raw"].encode("latin-1") if "raw" in rule else b""
        if reply is not None:
            data += self.reply_bytes(reply)
        if data:
            self.emit("reply", stage=stage, text=data.decode("latin-1"))
            self.send(data, rule.get("pieces"), rule.get("interval", 0))
        if ends:
            self.close(bool(rule.get("reset")))
        return data[:1].decode("latin-1")

    # -- the dialogue

    def run(self):
        how = "closed"
        try:
            if self.peer.implicit:
                self.start_tls()
            self.answer("greeting", self.rule("greeting"), f"220 {self.peer.name} ESMTP")
            while True:
                self.command()
        except Over as over:
            how = str(over)
        finally:
            try:
                self.sock.close()
            except OSError:
                pass
            self.emit("end", how=how)

    def next_command(self):
        idle = self.rule("idle") if self.sender is None else None
        if idle is None:
            return self.read_line()
        line = self.read_line(timeout=idle.get("after", 1))
        if line is None:
            self.peer.use(idle)
            self.answer("idle", idle, None)
            line = self.read_line()
        return line

    def command(self):
        line = self.next_command()
        verb, _, argument = line.partition(" ")
        handler = getattr(self, "on_" + verb.lower(), None)
        if handler is not None:
            handler(argument)
        else:
            self.answer("other", self.rule("other"), "500 5.5.1 what?")

    def on_ehlo(self, argument):
        self.reset_transaction()
        offer = self.peer.extensions_tls if self.tls else self.peer.extensions
        lines = [self.peer.name, *offer]
        if self.peer.context and not self.tls:
            lines.append("STARTTLS")
        self.hello = self.answer("ehlo", self.rule("ehlo"), ["250", *lines]) == "2"

    def on_helo(self, argument):
        self.reset_transaction()
        self.hello = self.answer("helo", self.rule("helo"), f"250 {self.peer.name}") == "2"

    def on_starttls(self, argument):
        usual = "220 2.0.0 go ahead" if self.peer.context and not self.tls else "502 5.5.1 no TLS here"
        rule = self.rule("starttls")
        if self.answer("starttls", rule, usual) == "2" and self.peer.context:
            self.start_tls()

    def start_tls(self):
        rule = self.rule("tls")
        if rule is not None:
            self.answer("tls", rule, None)
            if "raw" in rule:
                self.silence()
        self.buffer = b""
        self.hello = False
        self.reset_transaction()
        try:
            self.sock.settimeout(60)
            self.sock = self.peer.context.wrap_socket(self.sock, server_side=True)
        except ssl.SSLError as error:
            raise Over(f"TLS: {error.reason}") from None
        except OSError:
            raise Over("reset by client") from None
        self.tls = self.sock.version()
        self.emit("tls", version=self.tls, cipher=self.sock.cipher()[0],
                  server_name=getattr(self.sock, "asked_name", None))

    def on_mail(self, argument):
        self.transaction += 1
        address, parameters = mailbox(argument[argument.find(":") + 1:].strip())
        usual = "250 2.1.0 ok"
        if not self.hello:
            usual = "503 5.5.1 say EHLO first"
        elif self.sender is not None:
            usual = "503 5.5.1 nested MAIL"
        if self.answer("mail", self.rule("mail", address=address), usual) == "2":
            self.sender, self.parameters = address, parameters
            self.mail_time = time.monotonic()

    def on_rcpt(self, argument):
        address, _ = mailbox(argument[argument.find(":") + 1:].strip())
        self.tried += 1
        usual = "250 2.1.5 ok" if self.sender is not None else "503 5.5.1 no MAIL"
        first = self.answer("rcpt", self.rule("rcpt", address=address, index=self.tried), usual)
        (self.recipients if first == "2" else self.refused).append(address)

    def on_data(self, argument):
        usual = "354 go" if self.recipients else "503 5.5.1 no valid recipients"
        self.data_time = time.monotonic()
        if self.answer("data", self.rule("data"), usual) != "3":
            return
        raw = self.read_content(self.rule("content") or {})
        self.finish_message(raw)

    def read_content(self, rule):
        """The bytes up to and with the CRLF before the final dot."""
        parts, tail, size = [], b"\r\n", -2  # the content begins at a line start
        data = self.buffer
        self.buffer = b""
        while True:
            tail += data
            end = tail.find(b"\r\n.\r\n")
            if end >= 0:
                parts.append(tail[:end + 2])
                self.buffer = tail[end + 5:]
                return b"".join(parts)[2:]
            keep = max(0, len(tail) - 4)
            parts.append(tail[:keep])
            tail = tail[keep:]
            size += keep
            rule = self.disturb_content(rule, size + len(tail))
            if "read_bytes" in rule:
                self.wait(rule.get("interval", 0))
            data = self.receive(rule.get("read_bytes", 262144))

    def disturb_content(self, rule, size):
        """What the rule does within the content. Returns what is left of it."""
        if size < rule.get("after", 0):
            return rule
        if rule.get("stop_reading"):
            poll = select.poll()
            poll.register(self.sock, select.POLLRDHUP)
            while not poll.poll(200):
                self.wait(0)
            raise Over("client closed")
        if any(key in rule for key in ("reply", "raw", "close", "reset", "silence", "delay")):
            self.answer("content", rule, None)
            return {key: rule[key] for key in ("read_bytes", "interval") if key in rule}
        return rule

    def finish_message(self, raw):
        lines = raw.split(b"\r\n")
        content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
        rule = self.rule("dot") or {}
        usual = "250 2.0.0 taken" if self.recipients else "554 5.5.1 no valid recipients"
        ends = rule.get("close") or rule.get("reset") or rule.get("silence") or "raw" in rule
        reply = rule.get("reply", None if ends else usual)
        accepted = rule.get("accept", isinstance(reply, str) and reply.startswith("2"))
        self.emit("message", transaction=self.transaction, sender=self.sender, parameters=self.parameters,
                  recipients=self.recipients, refused=self.refused, tls=self.tls, reply=reply, accepted=bool(accepted),
                  raw=base64.b64encode(raw).decode(), content=base64.b64encode(content).decode(),
                  mail_time=self.mail_time, data_time=self.data_time, dot_time=time.monotonic())
        self.reset_transaction()
        self.answer("dot", rule, usual)

    def on_rset(self, argument):
        self.reset_transaction()
        self.answer("rset", self.rule("rset"), "250 2.0.0 ok")

    def on_noop(self, argument):
        self.answer("noop", self.rule("noop"), "250 2.0.0 ok")

    def on_quit(self, argument):
        self.answer("quit", self.rule("quit"), "221 2.0.0 bye")
        if self.tls:
            try:
                self.sock.settimeout(GRACE_S)
                self.sock = self.sock.unwrap()
            except (OSError, ValueError):
                pass
        self.close(False)


# ---- the server ----------------------------------------------------------------------------------------------


def listen(address, port, receive_buffer=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer is not None:  # small, so that a peer that stops reading is felt soon
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((address, port))
    sock.listen(1024)
    return sock


def server_context(tls, minimum=None, maximum=None, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    context.sni_callback = lambda sock, name, unused: setattr(sock, "asked_name", name)
    if minimum is not None:
        context.minimum_version = getattr(ssl.TLSVersion, minimum)
    if maximum is not None:
        context.maximum_version = getattr(ssl.TLSVersion, maximum)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    return context


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


# ---- the sink ------------------------------------------------------------------------------------------------


class SinkSession:
    """Bytes in, replies out, no threads: many of these in one loop."""

    REPLIES = {b"MAIL": b"250 2.1.0 ok\r\n", b"RCPT": b"250 2.1.5 ok\r\n", b"RSET": b"250 2.0.0 ok\r\n",
               b"NOOP": b"250 2.0.0 ok\r\n", b"HELO": b"250 sink.example\r\n"}

    def __init__(self, sink, sock, number):
        self.sink = sink
        self.sock = sock
        self.number = number
        self.buffer = bytearray()
        self.out = bytearray(b"220 sink.example ESMTP\r\n")
        self.state = "command"  # command | content | handshake | closing
        self.sender = None
        self.recipients = []
        self.tls = None

    def begin_content(self):
        self.state = "content"
        self.tail = b"\r\n"    # the content begins at a line start; these two are taken off again
        self.head = bytearray()
        self.headless = False  # the header section is through
        self.size = 0
        self.key = None
        self.whole = hashlib.sha256()
        self.below = hashlib.sha256()

    def feed(self, data):
        self.buffer += data
        while self.buffer and self.state in ("command", "content"):
            if not (self.feed_content() if self.state == "content" else self.feed_command()):
                return

    def feed_command(self):
        end = self.buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end]).rstrip(b"\r")
        del self.buffer[:end + 1]
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.out += self.sink.ehlo(self.tls)
        elif verb == b"STAR" and self.sink.context and not self.tls:
            self.out += b"220 2.0.0 go\r\n"
            self.state = "handshake"
            self.buffer.clear()
        elif verb == b"DATA":
            self.out += b"354 go\r\n" if self.recipients else b"503 5.5.1 no recipients\r\n"
            if self.recipients:
                self.begin_content()
        elif verb == b"QUIT":
            self.out += b"221 2.0.0 bye\r\n"
            self.state = "closing"
        else:
            self.simple(verb, line)
        return True

    def simple(self, verb, line):
        if verb in (b"MAIL", b"RSET", b"HELO"):
            self.sender, self.recipients = None, []
        if verb == b"MAIL":
            self.sender = mailbox(line[10:].decode("latin-1").strip())[0]
        elif verb == b"RCPT":
            self.recipients.append(mailbox(line[8:].decode("latin-1").strip())[0])
        self.out += self.REPLIES.get(verb, b"500 5.5.1 what?\r\n")

    def feed_content(self):
        data = self.tail + bytes(self.buffer)
        self.buffer.clear()
        end = data.find(b"\r\n.\r\n")
        if end >= 0:
            self.take(data[:end + 2])
            self.buffer += data[end + 5:]
            self.finish()
            return True
        keep = next((n for n in (4, 3, 2, 1) if data.endswith(b"\r\n.\r"[:n])), 0)
        self.take(data[:len(data) - keep])
        self.tail = data[len(data) - keep:]
        return False

    def take(self, data):
        """Part of the content, never cut within a line's CRLF and dot."""
        data = data.replace(b"\r\n.", b"\r\n")
        if self.size == 0:
            if len(data) < 2:
                return
            data = data[2:]
            self.size = 2
        self.size += len(data)
        self.whole.update(data)
        if self.headless:
            self.below.update(data)
            return
        self.head += data
        if b"\r\n\r\n" in self.head or len(self.head) > 1048576:
            self.split_head()

    def split_head(self):
        """Find the key header; what is below the first skip_lines lines (or from the key header on) is hashed."""
        self.headless = True
        head = bytes(self.head)
        lower = head[:max(head.find(b"\r\n\r\n"), 0)].lower()
        at = 0 if lower.startswith(self.sink.key) else lower.find(b"\r\n" + self.sink.key) + 2
        if at >= 2 or lower.startswith(self.sink.key):
            self.key = head[at + len(self.sink.key):head.find(b"\r\n", at)].strip().decode("latin-1")
        else:
            at = 0
        if self.sink.skip_lines is not None:
            at = 0
            for _ in range(self.sink.skip_lines):
                at = head.find(b"\r\n", at) + 2
        self.below.update(head[at:])
        self.head = bytearray()

    def finish(self):
        if not self.headless:
            self.split_head()
        self.sink.taken({"event": "message", "connection": self.number, "key": self.key, "size": max(self.size - 2, 0),
                         "sha256": self.below.hexdigest(), "whole": self.whole.hexdigest(), "sender": self.sender,
                         "recipients": self.recipients, "tls": self.tls})
        self.sender, self.recipients = None, []
        self.out += b"250 2.0.0 taken\r\n"
        self.state = "command"


class Sink:
    """Takes everything, fast, in one thread, and keeps hashes instead of bytes.

    Per message: key (value of key_header), sha256 (of the content from the key header's line on; with skip_lines: below the
    first so many lines), whole (of all of it), size, sender, recipients, tls. A sender that puts the key header first
    in its message finds there the hash of what it sent, below the fields that were added on the way.
    """

    def __init__(self, address="127.0.0.1", port=0, tls=None, *, key_header="X-Test-Id", skip_lines=None,
                 extensions=EXTENSIONS, on_event=None):
        self.key = key_header.lower().encode() + b":"
        self.skip_lines = skip_lines
        self.extensions = list(extensions)
        self.context = server_context(tls) if tls else None
        self.on_event = on_event
        self.changed = threading.Condition()
        self.messages = []
        self.counts = {}  # key -> copies
        self.connection_count = 0
        self.most_open = 0
        self.wake, self.waker = socket.socketpair()
        self.listener = listen(address, port)
        self.listener.setblocking(False)
        self.address, self.port = self.listener.getsockname()[:2]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, "accept")
        self.selector.register(self.wake, selectors.EVENT_READ, "stop")
        if on_event is not None:
            on_event({"event": "listening", "address": self.address, "port": self.port})
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()

    def ehlo(self, tls):
        lines = ["sink.example", *self.extensions] + (["STARTTLS"] if self.context and not tls else [])
        return Session.reply_bytes(["250", *lines])

    def taken(self, message):
        with self.changed:
            self.messages.append(message)
            self.counts[message["key"]] = self.counts.get(message["key"], 0) + 1
            self.changed.notify_all()
        if self.on_event is not None:
            self.on_event(message)

    def wait_for(self, predicate, timeout=60):
        """predicate(sink), under the lock. A number stands for: so many messages."""
        wanted = predicate if callable(predicate) else lambda sink: len(sink.messages) >= predicate
        with self.changed:
            if not self.changed.wait_for(lambda: wanted(self), timeout):
                raise AssertionError(f"not within {timeout} s: {len(self.messages)} messages")

    def loop(self):
        while True:
            for key, _ in self.selector.select():
                if key.data == "stop":
                    return
                if key.data == "accept":
                    self.accept()
                else:
                    self.serve(key.data)

    def accept(self):
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connection_count += 1
                session = SinkSession(self, sock, self.connection_count)
                self.selector.register(sock, selectors.EVENT_READ, session)
                self.most_open = max(self.most_open, len(self.selector.get_map()) - 2)
                self.serve(session, readable=False)
        except BlockingIOError:
            pass

    def serve(self, session, readable=True):
        try:
            if session.state == "handshake" and session.tls is None and not session.out:
                self.handshake(session)
                return
            if readable:
                self.read(session)
            self.write(session)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except OSError:
            self.drop(session)

    def read(self, session):
        data = session.sock.recv(1 << 20)
        while data:
            session.feed(data)
            pending = session.sock.pending() if session.tls else 0
            data = session.sock.recv(pending) if pending else None
        if data == b"":
            raise OSError("closed")

    def write(self, session):
        if session.out:
            sent = session.sock.send(session.out)
            del session.out[:sent]
        if session.state == "closing" and not session.out:
            self.drop(session)
            return
        if session.state == "handshake" and not session.out:
            self.selector.unregister(session.sock)
            session.sock = self.context.wrap_socket(session.sock, server_side=True, do_handshake_on_connect=False)
            self.selector.register(session.sock, selectors.EVENT_READ, session)
            return
        self.selector.modify(session.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if session.out else 0), session)

    def handshake(self, session):
        session.sock.do_handshake()
        session.tls = session.sock.version()
        session.state = "command"
        try:
            self.read(session)  # what came with the last flight
        except ssl.SSLWantReadError:
            pass
        self.write(session)

    def drop(self, session):
        try:
            self.selector.unregister(session.sock)
        except (KeyError, ValueError):
            pass
        session.sock.close()

    def stop(self):
        self.waker.send(b"x")
        self.thread.join(5)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()
        self.waker.close()


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
