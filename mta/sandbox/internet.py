#!/usr/bin/python3
"""A small Internet for the quick start: a DNS server and a mail server with STARTTLS, on this machine only.

    internet.py FOLDER DNS_PORT SMTP_PORT

DNS: every domain has its MX here, so nothing that is tried in the sandbox leaves the machine; the key that FOLDER/dkim.pem
signs with is published at s1._domainkey.sandbox.example; names below nowhere.example do not exist.
Mail: each message goes to FOLDER/mailbox/, with what was seen of it beside it as .json: the TLS version, and dkimpy's verdict
with the key that it asked the DNS server for. Mail to refuse@... is refused for good, mail to later@... twice for now.
"""

import base64
import json
import pathlib
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
import time

import dkim
import dnslib
from aiosmtpd.controller import Controller
from dnslib import QTYPE, RCODE

ADDRESS = "127.0.0.1"
MAIL_HOST = "mx.internet.example"


def public_key(path):
    der = subprocess.run(["openssl", "rsa", "-in", path, "-pubout", "-outform", "DER"], check=True,
                         capture_output=True).stdout
    return "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode()


class Names(socketserver.BaseRequestHandler):
    """One DNS question over UDP."""

    key = ""

    def handle(self):
        try:
            request = dnslib.DNSRecord.parse(self.request[0])
        except dnslib.DNSError:
            return
        reply = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        if name == "nowhere.example" or name.endswith(".nowhere.example"):
            reply.header.rcode = RCODE.NXDOMAIN
        elif kind == "TXT" and name == "s1._domainkey.sandbox.example":
            parts = [self.key[at:at + 250] for at in range(0, len(self.key), 250)]
            reply.add_answer(dnslib.RR(request.q.qname, QTYPE.TXT, ttl=60, rdata=dnslib.TXT(parts)))
        elif kind == "MX" and name != MAIL_HOST:
            reply.add_answer(dnslib.RR(request.q.qname, QTYPE.MX, ttl=60, rdata=dnslib.MX(MAIL_HOST, 10)))
        elif kind == "A" and name == MAIL_HOST:
            reply.add_answer(dnslib.RR(request.q.qname, QTYPE.A, ttl=60, rdata=dnslib.A(ADDRESS)))
        self.request[1].sendto(reply.pack(), self.client_address)


class Mail:
    """What the mail server does with a message."""

    def __init__(self, folder, dns_port):
        self.mailbox = folder / "mailbox"
        self.mailbox.mkdir(exist_ok=True)
        self.dns_port = dns_port
        self.later = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0].lower()
        if local == "refuse":
            return "550 5.1.1 there is nobody of that name here"
        if local == "later" and self.later.setdefault(address, 0) < 2:
            self.later[address] += 1
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    def lookup(self, name, timeout=5):
        """The TXT record, asked for as any verifier would."""
        question = dnslib.DNSRecord.question(name.decode(), "TXT")
        answer = dnslib.DNSRecord.parse(question.send(ADDRESS, self.dns_port, timeout=timeout))
        return b"".join(answer.rr[0].rdata.data) if answer.rr else None

    async def handle_DATA(self, server, session, envelope):
        content = envelope.original_content
        try:
            signed = dkim.verify(content, dnsfunc=self.lookup) if b"DKIM-Signature:" in content else None
        except dkim.DKIMException as failure:
            signed = f"cannot be verified: {failure}"
        tls = session.ssl and session.ssl["ssl_object"]
        seen = {"sender": envelope.mail_from, "recipients": envelope.rcpt_tos, "bytes": len(content),
                "tls": tls and f"{tls.version()} {tls.cipher()[0]}",
                "dkim": {True: "pass", False: "fail", None: "not signed"}.get(signed, signed)}
        path = self.mailbox / f"{time.time_ns()}.eml"
        try:
            path.write_bytes(content)
            path.with_suffix(".new").write_text(json.dumps(seen, indent=1) + "\n")
            path.with_suffix(".new").rename(path.with_suffix(".json"))
        except OSError as failure:
            return f"451 4.3.0 {failure}"
        return "250 2.0.0 taken as " + path.name


def main():
    folder, dns_port, smtp_port = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    Names.key = public_key(folder / "dkim.pem")
    names = socketserver.ThreadingUDPServer((ADDRESS, dns_port), Names)
    threading.Thread(target=names.serve_forever, daemon=True).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "internet-cert.pem", folder / "internet-key.pem")
    mail = Controller(Mail(folder, dns_port), hostname=ADDRESS, port=smtp_port, server_hostname=MAIL_HOST,
                      tls_context=context, data_size_limit=100 * 1024 * 1024)
    mail.start()
    print(f"DNS on {ADDRESS}:{dns_port}, mail on {ADDRESS}:{smtp_port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    mail.stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
