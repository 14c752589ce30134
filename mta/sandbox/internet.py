#!/usr/bin/python3
"""A small Internet for the quick start: a DNS server and a mail server with STARTTLS, on this machine only.

    internet.py FOLDER DNS_PORT SMTP_PORT

FOLDER/dkim.txt is published in DNS, FOLDER/sandbox.pem is the mail server's certificate, FOLDER/mailbox/ gets the mail: one
.eml a message, as it came, below a Return-Path and a Received field that says how the connection was encrypted.
README.md tells how names and addresses behave.
"""

import email.utils
import itertools
import os
import pathlib
import re
import socketserver
import ssl
import sys
import threading
import time

import dnslib
from dnslib import QTYPE, RCODE

ADDRESS = "127.0.0.1"
MAIL_HOST = "mx.receiver.example"
HOSTS = (MAIL_HOST, "mta.sandbox.example")
LINE_MAX = 64 * 1024
SIZE_MAX = 64 * 1024 * 1024
TTL_S = 60
_count = itertools.count(1)


class Names(socketserver.BaseRequestHandler):
    """One DNS question over UDP."""

    def handle(self):
        try:
            request = dnslib.DNSRecord.parse(self.request[0])
        except dnslib.DNSError:
            return
        reply = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        data = None
        if ("." + name).endswith(".nowhere.example"):
            reply.header.rcode = RCODE.NXDOMAIN
        elif kind == "TXT" and "._domainkey." in name:
            key = self.server.key
            data = dnslib.TXT([key[at:at + 255] for at in range(0, len(key), 255)])
        elif kind == "MX" and name not in HOSTS:
            data = dnslib.MX(MAIL_HOST, 10)
        elif kind == "A" and name in HOSTS:
            data = dnslib.A(ADDRESS)
        if data is not None:
            reply.add_answer(dnslib.RR(request.q.qname, request.q.qtype, ttl=TTL_S, rdata=data))
        self.request[1].sendto(reply.pack(), self.client_address)


class Receiver(socketserver.StreamRequestHandler):
    """One SMTP session."""

    timeout = 300

    def handle(self):
        self.helo = ""
        self.reset()
        try:
            self.say("220 " + MAIL_HOST + " ESMTP (sandbox)")
            while self.command():
                pass
        except (OSError, EOFError):
            pass  # the other side has gone
        finally:
            self.connection.close()

    def reset(self):
        self.sender, self.recipients = None, []

    def say(self, *lines):
        lines = [line[:3] + "-" + line[4:] for line in lines[:-1]] + [lines[-1]]
        self.connection.sendall("".join(line + "\r\n" for line in lines).encode())

    def read_line(self):
        line = self.rfile.readline(LINE_MAX)
        if not line:
            raise EOFError
        return line

    def command(self):
        """Answers one command. Returns whether to go on."""
        line = self.read_line().decode("latin-1").rstrip("\r\n")
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        path = re.match(r"(?:FROM|TO):\s*<([^>]*)>", argument, re.IGNORECASE)
        if verb in ("EHLO", "HELO"):
            self.helo = argument
            self.reset()
            offers = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {SIZE_MAX}"]
            if not self.tls():
                offers.append("STARTTLS")
            self.say("250 " + MAIL_HOST, *("250 " + offer for offer in offers if verb == "EHLO"))
        elif verb == "STARTTLS" and not self.tls():
            self.start_tls()
        elif verb == "MAIL" and path:
            self.reset()
            self.sender = path[1]
            self.say("250 2.1.0 sender ok")
        elif verb == "RCPT" and path and self.sender is not None:
            self.say(self.recipient(path[1]))
        elif verb == "DATA" and self.recipients:
            self.data()
        elif verb in ("RSET", "NOOP"):
            if verb == "RSET":
                self.reset()
            self.say("250 2.0.0 ok")
        elif verb == "QUIT":
            self.say("221 2.0.0 bye")
            return False
        else:
            self.say("503 5.5.1 not now" if verb in ("STARTTLS", "MAIL", "RCPT", "DATA") else "500 5.5.2 unknown")
        return True

    def tls(self):
        return isinstance(self.connection, ssl.SSLSocket)

    def start_tls(self):
        self.say("220 2.0.0 go ahead")
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")  # what was sent ahead in clear is forgotten
        self.helo = ""
        self.reset()

    def recipient(self, address):
        local = address.partition("@")[0].lower()
        if local == "refuse":
            return "550 5.1.1 there is nobody of that name here"
        if local == "later" and self.server.put_off(address):
            return "451 4.7.1 greylisted, try again later"
        self.recipients.append(address)
        return "250 2.1.5 recipient ok"

    def data(self):
        self.say("354 end with a dot")
        lines, size, starts = [], 0, True
        while True:
            line = self.read_line()
            if starts and line == b".\r\n":
                break
            if starts and line.startswith(b"."):
                line = line[1:]
            starts = line.endswith(b"\n")
            size += len(line)
            if size <= SIZE_MAX:
                lines.append(line)
        if size > SIZE_MAX:
            self.say("552 5.3.4 too large")
        else:
            self.store(b"".join(lines))
        self.reset()

    def store(self, content):
        how = f"{self.tls() and self.connection.version() or 'not encrypted'}"
        if self.tls():
            how += f" {self.connection.cipher()[0]}"
        head = (f"Return-Path: <{self.sender}>\r\n"
                f"Received: from {self.helo} ([{self.client_address[0]}])\r\n"
                f"\tby {MAIL_HOST} with ESMTP{'S' if self.tls() else ''} ({how})\r\n"
                f"\tfor {', '.join(f'<{recipient}>' for recipient in self.recipients)}; {email.utils.formatdate()}\r\n")
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_count)}.eml"
        path = self.server.mailbox / name
        try:
            path.with_suffix(".new").write_bytes(head.encode() + content)
            path.with_suffix(".new").rename(path)
        except OSError as failure:
            self.say(f"451 4.3.0 {failure.strerror}")
            return
        self.say("250 2.0.0 stored as " + name)


class Dns(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, port, key):
        super().__init__((ADDRESS, port), Names)
        self.key = key


class Mail(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port, folder):
        super().__init__((ADDRESS, port), Receiver)
        self.mailbox = folder / "mailbox"
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "sandbox.pem")
        self._lock = threading.Lock()
        self._later = {}

    def put_off(self, address, times=2):
        with self._lock:
            self._later[address] = self._later.get(address, 0) + 1
            return self._later[address] <= times


def give_up_root(mailbox):
    owner = mailbox.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def main():
    folder, dns_port, smtp_port = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    try:
        dns = Dns(dns_port, (folder / "dkim.txt").read_text().strip())
        mail = Mail(smtp_port, folder)
    except OSError as failure:
        sys.exit(f"the sandbox's ports {dns_port} (udp) and {smtp_port} (tcp): {failure}")
    give_up_root(mail.mailbox)
    threading.Thread(target=dns.serve_forever, daemon=True).start()
    print("ready", flush=True)
    mail.serve_forever()


if __name__ == "__main__":
    main()
