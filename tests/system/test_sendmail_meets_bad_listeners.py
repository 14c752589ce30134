"""What mta-sendmail says and does when the listener on its socket refuses at any stage, leaves, or talks nonsense: an
exit code of sysexits.h, one line of words, and never a message that is half there."""

import os
import pathlib
import socket
import subprocess
import threading

import pytest

from mta import BUILD

PROGRAM = str(BUILD / "address" / "bin" / "mta-sendmail")
GOOD = {"greeting": "220 x ESMTP", "EHLO": "250-x\r\n250-PIPELINING\r\n250-DSN\r\n250-8BITMIME\r\n250 SMTPUTF8", "MAIL": "250 2.1.0 ok",
        "RCPT": "250 2.1.5 ok", "DATA": "354 go", "dot": "250 2.0.0 queued as X"}


class Listener:
    """Answers as `replies` says (None: closes); keeps what it was told."""

    def __init__(self, folder, **replies):
        self.replies = {**GOOD, **replies}
        self.commands, self.content = [], None
        self.path = str(folder / "socket")
        pathlib.Path(self.path).unlink(missing_ok=True)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(1)
        self.config = folder / "mta.yaml"
        self.config.write_text(f'hostname: mta.example.org\nstate_dir: {folder}/state\nlisteners: [{{address: "unix:{self.path}"}}]\n')
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def say(self, peer, key):
        reply = self.replies[key]
        reply = reply.pop(0) if isinstance(reply, list) else reply
        if reply is not None:
            peer.sendall(reply.encode("latin-1") + b"\r\n")
        return reply is not None

    def serve(self):
        peer, _ = self.sock.accept()
        with peer, peer.makefile("rb") as lines:
            try:
                going = self.say(peer, "greeting")
                while going:
                    line = lines.readline()
                    if not line or line == b"QUIT\r\n":
                        self.commands += [line.decode().strip()] if line else []
                        return
                    self.commands.append(line.decode("latin-1").rstrip())
                    going = self.say(peer, line[:4].decode())
                    if line == b"DATA\r\n" and self.replies["DATA"].startswith("354"):
                        going = self.take_content(peer, lines)
            except ConnectionError:
                pass

    def take_content(self, peer, lines):
        taken, length = [], 0
        while not taken or taken[-1] != b".\r\n":
            if length > self.replies.get("leaves_after", length):
                peer.sendall(b"421 4.3.2 shutting down\r\n")
                return False
            taken.append(lines.readline())
            length += len(taken[-1])
            if not taken[-1]:
                return False
        self.content = b"".join(taken)
        return self.say(peer, "dot")

    def run(self, *arguments, content=b"Subject: x\n\nbody\n"):
        environment = {**os.environ, "ASAN_OPTIONS": "exitcode=99:detect_leaks=1"}
        done = subprocess.run([PROGRAM, "-C", str(self.config), *arguments], input=content, capture_output=True, timeout=60,
                              env=environment)
        self.thread.join(20)
        self.sock.close()
        return done


REFUSALS = [
    ({"greeting": "421 4.3.2 busy"}, 75, "the greeting: 421 4.3.2 busy"),
    ({"greeting": "554 5.3.2 no"}, 69, "the greeting: 554 5.3.2 no"),
    ({"greeting": None}, 75, "has closed the connection"),
    ({"greeting": "hello"}, 76, "does not speak SMTP"),
    ({"greeting": "A" * 5000}, 76, "does not speak SMTP"),
    ({"EHLO": "502 5.5.1 what"}, 76, "EHLO: 502 5.5.1 what"),
    ({"MAIL": "530 5.7.0 log in"}, 77, "sender <anna@x.example>: 530 5.7.0 log in"),
    ({"MAIL": "553 5.1.7 bad sender"}, 65, "sender"),
    ({"MAIL": "452 4.3.1 full"}, 75, "452 4.3.1 full"),
    ({"MAIL": None}, 75, "has closed the connection"),
    ({"RCPT": ["550 5.1.1 no such user", "250 ok"]}, 67, "mta-sendmail: bert@x.example: 550 5.1.1 no such user\n"),
    ({"RCPT": ["451 4.3.0 later", "550 5.1.2 no host"]}, 68, "bert@x.example: 451 4.3.0 later; carl@x.example: 550 5.1.2 no host"),
    ({"RCPT": ["550 5.7.1 \x1b[2Jdenied", "451 4.3.0 later"]}, 77, "550 5.7.1 ?[2Jdenied; carl"),
    ({"RCPT": ["250 ok", None]}, 75, "has closed the connection"),
    ({"DATA": "451 4.3.0 not now"}, 75, "DATA: 451 4.3.0 not now"),
    ({"DATA": "250 ok?"}, 76, "DATA: 250"),
    ({"dot": "554 5.6.0 two From"}, 65, "the message: 554 5.6.0 two From"),
    ({"dot": "552 5.3.4 too big"}, 69, "552 5.3.4"),
    ({"dot": "451 4.3.0 disk"}, 75, "451 4.3.0"),
    ({"dot": None}, 75, "may be in the queue already"),
]


@pytest.mark.parametrize("replies, code, words", REFUSALS)
def test_refused(tmp_path, replies, code, words):
    listener = Listener(tmp_path, **replies)
    done = listener.run("-f", "anna@x.example", "bert@x.example", "carl@x.example")
    said = done.stderr.decode()
    assert done.returncode == code and words in said and said.count("\n") == 1 and "\x1b" not in said
    assert ("dot" in replies) == (listener.content is not None)


def test_leaves_within_the_message(tmp_path):
    listener = Listener(tmp_path, leaves_after=300000)
    done = listener.run("bert@x.example", content=b"Subject: x\n\n" + b"0123456789\n" * 2000000)
    assert done.returncode == 75 and b"421 4.3.2 shutting down" in done.stderr
    assert listener.content is None


def test_what_is_sent(tmp_path):
    """Everything that the listener offers is said to it, nothing else; a thousand recipients go in batches."""
    listener = Listener(tmp_path)
    recipients = [f"r{n}@x.example" for n in range(1000)]
    done = listener.run("-f", "anna@x.example", "-N", "success,failure", "-R", "full", "-V", "a b+c", "-B8BITMIME", *recipients,
                        content=b".\xe4\n..\nx")
    assert (done.returncode, done.stderr) == (0, b"")
    assert listener.commands[1:] == ["MAIL FROM:<anna@x.example> BODY=8BITMIME RET=FULL ENVID=a+20b+2Bc",
                                     *[f"RCPT TO:<{name}> NOTIFY=SUCCESS,FAILURE" for name in recipients], "DATA", "QUIT"]
    assert listener.content == b"\r\n..\xe4\r\n...\r\nx\r\n.\r\n"

    listener = Listener(tmp_path, EHLO="250 x")
    done = listener.run("-f", "", "-N", "never", "-R", "hdrs", "-V", "x", "-B8BITMIME", "-F", "X", "bert@x.example", content=b"\n.x")
    assert done.returncode == 0
    assert listener.commands[1:] == ["MAIL FROM:<>", "RCPT TO:<bert@x.example>", "DATA", "QUIT"]
    assert listener.content == b"\r\n..x\r\n.\r\n"

    listener = Listener(tmp_path)
    done = listener.run("-f", "anna@x.example", "j\u00f6rg@x.example", content=b"")
    assert done.returncode == 0 and listener.content == b"\r\n.\r\n"
    assert listener.commands[1] == "MAIL FROM:<anna@x.example> SMTPUTF8"


def test_smtp_is_passed_through(tmp_path):
    """-bs: large both ways, the client's end before the last reply, and a listener that hangs up."""
    listener = Listener(tmp_path)
    content = b"0123456789\r\n" * 200000
    done = listener.run("-bs", content=b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + content + b".\r\n")
    assert done.returncode == 0 and listener.content == content + b".\r\n"
    assert done.stdout.endswith(b"354 go\r\n250 2.0.0 queued as X\r\n")
    listener = Listener(tmp_path, MAIL=None)
    done = listener.run("-bs", content=b"EHLO me\r\nMAIL FROM:<a@b>\r\n" + content)
    assert done.returncode == 0 and done.stdout.endswith(b"250 SMTPUTF8\r\n")
