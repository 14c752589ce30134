"""A fast sink: takes every message, and keeps hashes instead of bytes."""

import hashlib
import selectors
import socket
import ssl
import threading

from peer_serving import EXTENSIONS, listen, mailbox, server_context
from peer_session import Session


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
