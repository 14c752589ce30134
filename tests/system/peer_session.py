"""One session of the scripted peer: the dialogue as a server would lead it, and what the rules make of it (peer.py)."""

import base64
import select
import socket
import ssl
import struct
import time

from peer_serving import mailbox

LINE_MAX = 65536
GRACE_S = 1.0  # how long we wait for the other side to close after our FIN


class Over(Exception):
    """The connection is over; the text says how."""


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
        turn = time.monotonic()
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
            if "read_bytes" in rule:  # by a schedule: on a busy machine no slower than asked
                turn += rule.get("interval", 0)
                self.wait(max(0, turn - time.monotonic()))
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
