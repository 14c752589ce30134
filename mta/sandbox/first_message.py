#!/usr/bin/python3
"""Sends one message through mtad and shows what happens to it, out of mtad's own log and the sandbox's mailbox.

    first_message.py FOLDER PORT
"""

import email.message
import email.policy
import email.utils
import json
import pathlib
import re
import smtplib
import sys
import time

SENDER, RECIPIENT = "you@sandbox.example", "friend@elsewhere.example"
PATIENCE_S = 20


def submit(port):
    message = email.message.EmailMessage()
    message["From"], message["To"] = f"You <{SENDER}>", RECIPIENT
    message["Subject"] = f"The first message, {email.utils.formatdate(localtime=True)}"
    message.set_content("Hello from the sandbox.\n\n.A line that begins with a dot stays as it is.\n")
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.ehlo()
        for code, reply in (client.mail(SENDER), client.rcpt(RECIPIENT), client.data(message.as_bytes(policy=email.policy.SMTP))):
            if code >= 400:
                sys.exit(f"   mtad says {code} {reply.decode()}")
    print(f"   client   <- {code} {reply.decode()}")
    return re.search(r"queued as (\S+)", reply.decode()).group(1)


def events(log, begin, identity):
    """The events of one message, as they come."""
    end = time.monotonic() + PATIENCE_S
    with open(log, encoding="utf-8") as file:
        file.seek(begin)
        rest = ""
        while time.monotonic() < end:
            rest += file.readline()
            if not rest.endswith("\n"):
                time.sleep(0.02)
                continue
            record, rest = json.loads(rest), ""
            if record.get("id") == identity:
                yield record
    sys.exit(f"   nothing more in {PATIENCE_S} s; look into {log}")


def show(record):
    shown = [f"{key}={record[key]}" for key in ("recipient", "host", "address", "tls", "code", "status", "reply", "delay")
             if record.get(key) not in (None, "", 0)]
    print(f"   {record['event']:<9}   {' '.join(shown)}")


def main():
    folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    log, mailbox = folder / "mta.log", folder / "mailbox"
    begin = log.stat().st_size
    known = set(mailbox.glob("*.json"))
    begun = time.monotonic()
    identity = submit(port)
    last = None
    for last in events(log, begin, identity):
        show(last)
        if last["event"] in ("delivered", "bounced"):
            break
    if last["event"] != "delivered":
        sys.exit("   not delivered")
    print(f"   {(time.monotonic() - begun) * 1000:.0f} ms from the first byte to the other side's mailbox")

    came = sorted(set(mailbox.glob("*.json")) - known)
    if len(came) != 1:
        sys.exit(f"   {len(came)} messages came, one was sent")
    seen = json.loads(came[0].read_text())
    print(f"   receiver    {came[0].with_suffix('.eml')}")
    print(f"   encrypted   {seen['tls'] or 'no'}")
    print(f"   DKIM        {seen['dkim']} (dkimpy, with the key from s1._domainkey.sandbox.example)")
    if seen["dkim"] != "pass" or not seen["tls"]:
        sys.exit("   this is not as it should be")


if __name__ == "__main__":
    main()
