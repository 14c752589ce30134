#!/usr/bin/python3
"""Sends two messages through mtad and shows what becomes of them: events out of mtad's own log, what arrived out of the
sandbox's mailbox, the DKIM signature checked by dkimpy with the key that DNS tells.

    first_message.py FOLDER ADDRESS:PORT DNS_PORT

Ends with 1 when anything is not as it should be.
"""

import email
import email.policy
import email.utils
import json
import pathlib
import re
import smtplib
import sys
import time

import dkim
import dns.exception
import dns.resolver

SENDER, RECIPIENT, STRANGER = "alice@sandbox.example", "bob@receiver.example", "refuse@receiver.example"
PATIENCE_S = 30


def step(text):
    print(f"\n== {text}", flush=True)


def tell(name, text):
    print(f"   {name:<13}{text}", flush=True)


def submit(address, recipient, subject):
    """Hands a message in. Returns the id that mtad gave it."""
    host, port = address.rsplit(":", 1)
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = f"Alice <{SENDER}>", recipient, subject
    message.set_content("Hello from the sandbox.\n\n.A line that begins with a dot stays as it is.\n")
    with smtplib.SMTP(host, int(port), timeout=PATIENCE_S) as client:
        client.ehlo()
        for reply in (client.mail(SENDER), client.rcpt(recipient), client.data(message.as_bytes())):
            if reply[0] >= 400:
                sys.exit(f"   mtad refused it: {reply[0]} {reply[1].decode(errors='replace')}")
    text = reply[1].decode(errors="replace")
    tell("mtad says", f"{reply[0]} {text}")
    return re.search(r"queued as (\w+)", text)[1]


class Log:
    """mtad's log from now on."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, encoding="utf-8")
        self.file.seek(0, 2)

    def events(self, identity):
        """The events of one message, as they come, until one that ends it."""
        end, rest = time.monotonic() + PATIENCE_S, ""
        while time.monotonic() < end:
            rest += self.file.readline()
            if not rest.endswith("\n"):
                time.sleep(0.01)
                continue
            record, rest = json.loads(rest), ""
            if record.get("id") != identity:
                continue
            yield record
            if record["event"] in ("delivered", "bounced", "deferred", "expired"):
                return
        sys.exit(f"   nothing came for {PATIENCE_S} s; look into {self.path}")


def in_words(record):
    get = record.get
    reply = f"{get('code') or ''} {get('reply', '')}".strip()
    words = {
        "accept": f"from {get('sender')} for {get('recipient')}: on disk, then answered",
        "attempt": f"{get('host')} [{get('address')}], {get('tls') or 'not encrypted'}",
        "delivered": f"to {get('recipient')} after {get('delay')} s: {reply}",
        "bounced": f"{get('recipient')} failed for good: {reply}",
    }
    return words.get(record["event"], reply or get("text", ""))


def follow(log, identity, expected):
    last = {}
    for last in log.events(identity):
        tell(last["event"], f"{last['time'][11:23]}  {in_words(last)}")
    if last.get("event") != expected:
        sys.exit(f"   {expected} was expected")
    return last


def arrived(mailbox, known, wanted):
    """The new file in the mailbox that holds the wanted bytes."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for path in set(mailbox.glob("*.eml")) - known:
            content = path.read_bytes()
            if wanted in content:
                return path, content
        time.sleep(0.02)
    sys.exit(f"   nothing arrived in {mailbox} for {PATIENCE_S} s")


def key_in_dns(port):
    """A function that asks the sandbox's DNS, as dkimpy wants it."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], port

    def lookup(name, timeout=5):
        try:
            answer = resolver.resolve(name.decode(), "TXT", lifetime=timeout, search=False)
        except dns.exception.DNSException:
            return None
        return b"".join(answer[0].strings)

    return lookup


def verify(content, lookup):
    try:
        return dkim.verify(content, dnsfunc=lookup)
    except dkim.DKIMException as failure:
        tell("DKIM", str(failure))
        return False


def check_arrival(path, content, lookup):
    message = email.message_from_bytes(content, policy=email.policy.default)
    hops = [" ".join(hop.split()) for hop in message.get_all("Received", [])]
    tell("file", path)
    tell("TLS", (re.search(r"\((TLS\S+ \S+)\)", hops[0]) or ["", "none"])[1] + ", says the receiver")
    if "DKIM-Signature" not in message:
        sys.exit("   DKIM: not signed; has `dkim` in mta.yaml still an entry for sandbox.example?")
    tags = dict(re.findall(r"\b([ads])=([^;\s]+)", message["DKIM-Signature"]))
    passed = verify(content, lookup)
    tell("DKIM", f"{'pass' if passed else 'FAIL'} ({tags.get('a')}, key from {tags.get('s')}._domainkey.{tags.get('d')})")
    altered = verify(content.replace(b"Hello from", b"Hullo from"), lookup)
    tell("DKIM", f"{'PASS' if altered else 'fail'} for a copy with one letter changed, as it must")
    for hop in reversed(hops):
        tell("Received", hop)
    if not passed or altered or "(TLS" not in hops[0]:
        sys.exit("   the signature or the encryption is not right")


def main():
    folder, address, dns_port = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    mailbox, lookup = folder / "mailbox", key_in_dns(int(dns_port))
    log = Log(folder / "mta.log")
    known = set(mailbox.glob("*.eml"))

    step(f"A message from {SENDER} to {RECIPIENT}")
    identity = submit(address, RECIPIENT, f"The first message, {email.utils.formatdate(localtime=True)}")
    follow(log, identity, "delivered")
    step("What arrived")
    check_arrival(*arrived(mailbox, known, b"id " + identity.encode()), lookup)

    step(f"A message to {STRANGER}, whom the receiver does not know")
    identity = submit(address, STRANGER, "For nobody")
    failed = follow(log, identity, "bounced")
    path, content = arrived(mailbox, known, b"Final-Recipient: rfc822; " + STRANGER.encode())
    report = email.message_from_bytes(content, policy=email.policy.default)
    tell("bounce", f"{report['Subject']!r} to {report['To']}, status {failed['status']}")
    tell("file", path)


if __name__ == "__main__":
    main()
