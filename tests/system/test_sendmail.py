"""mta-sendmail with the command lines of real applications, against the real daemon: what arrives at a peer, byte for
byte, and the exit codes when it does not."""

import email
import email.policy
import getpass
import subprocess

import pytest

LINE = b"0123456789" * 7 + b"\n"
HEADER = b"From: Anna <anna@sender.example>\nTo: bert@dest.example\nSubject: x\n"


class Bed:
    """A daemon with a listener on a unix socket, a peer behind it, and the program."""

    def __init__(self, mta, peer):
        self.mta, self.peer, self.seen = mta, peer, 0

    def run(self, *arguments, content=b"", program=None):
        command = [program or self.mta.program("mta-sendmail"), "-C", str(self.mta.config_path), *arguments]
        return subprocess.run(command, env=self.mta.environment(), input=content, capture_output=True, timeout=60)

    def send(self, *arguments, content=HEADER + b"\nbody\n"):
        """Sent and accepted; what the peer got."""
        done = self.run(*arguments, content=content)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
        return self.next()

    def next(self):
        self.seen += 1
        self.peer.wait_for(lambda record: len(record.messages) >= self.seen)
        return self.peer.messages[self.seen - 1]

    def refused(self, *arguments, content=HEADER + b"\nbody\n", words=""):
        """Not sent; the exit code."""
        accepted = len(self.mta.events("accept"))
        done = self.run(*arguments, content=content)
        said = done.stderr.decode()
        assert said.startswith("mta-sendmail: ") and said.count("\n") == 1 and words in said, done
        assert len(self.mta.events("accept")) == accepted
        return done.returncode


@pytest.fixture
def bed(start_mta, start_peer, to_peer, tmp_path):
    def start(**listener):
        peer = start_peer()
        mta = start_mta(to_peer(peer, default_domain="sender.example", max_hops=3), wait=False, listener=listener)
        mta.config["listeners"][0]["address"].append(f"unix:{mta.folder}/socket")
        mta.write_config()
        return Bed(mta.start(), peer)

    return start


def parsed(message):
    return email.message_from_bytes(message.content, policy=email.policy.default)


def test_applications(bed):
    bed = bed()
    me = getpass.getuser() + "@sender.example"

    # PHP: mail() with additional headers; CRLF in the header, LF in the body
    got = bed.send("-t", "-i", content=b"To: bert@dest.example\r\nSubject: php\r\nX-PHP-Originating-Script: 0:a.php\r\n"
                   b"From: Shop <shop@sender.example>\r\nBcc: =?utf-8?q?J=C3=B6rg?= <carl@dest.example>\r\n\r\n"
                   b"line\n.\nlast")
    assert (got.sender, sorted(got.recipients)) == (me, ["bert@dest.example", "carl@dest.example"])
    assert got.content.endswith(b"\r\n\r\nline\r\n.\r\nlast\r\n") and b"carl" not in got.content
    assert b"X-PHP-Originating-Script: 0:a.php\r\nFrom: Shop <shop@sender.example>\r\n\r\n" in got.content

    # cron of Debian
    got = bed.send("-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root", content=
                   b"From: root (Cron Daemon)\nTo: admin@dest.example\nSubject: Cron <root@host> run\nMIME-Version: 1.0\n"
                   b"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
                   b"X-Cron-Env: <SHELL=/bin/sh>\n\nGr\xc3\xbc\xc3\x9fe\n")
    assert (got.sender, got.recipients) == ("root@sender.example", ["admin@dest.example"])
    assert parsed(got)["From"].addresses[0].addr_spec == "root@sender.example"
    assert b"From: root@sender.example (Cron Daemon)\r\n" in got.content and "BODY=8BITMIME" in got.parameters

    # mutt, with use_envelope_from and a copy for the sender; all of its fields are there
    got = bed.send("-oem", "-oi", "-f", "anna@sender.example", "-B8BITMIME", "--", "bert@dest.example", "anna@dest.example")
    assert (got.sender, got.recipients) == ("anna@sender.example", ["bert@dest.example", "anna@dest.example"])

    # git send-email, which names all recipients and pipes CRLF-less text that may start with dots
    got = bed.send("-i", "-f", "anna@sender.example", "bert@dest.example", content=
                   HEADER + b"Message-Id: <1@sender.example>\n\n---\n.gitignore | 1 +\n.\n-- \n2.39\n")
    assert got.content.endswith(b"\r\n\r\n---\r\n.gitignore | 1 +\r\n.\r\n-- \r\n2.39\r\n")

    # a script that says nothing of itself: everything is added, the name is taken
    got = bed.send("-F", "J\u00f6rg \"X\"", "bert@dest.example", content=b"no header at all\n.\nnot sent\n")
    read = parsed(got)
    assert read["From"].addresses[0].addr_spec == me and read["From"].addresses[0].display_name == 'J\u00f6rg "X"'
    assert read["Date"].datetime and read["Message-ID"] and got.content.endswith(b"\r\n\r\nno header at all\r\n")
    assert b"not sent" not in got.content


def test_options(bed):
    bed = bed()
    # -t: argument recipients are added; Resent- fields count alone where they are
    got = bed.send("-t", "-f", "<>", "x@dest.example, y@dest.example")
    assert (got.sender, got.recipients) == ("", ["x@dest.example", "y@dest.example", "bert@dest.example"])
    got = bed.send("-ti", content=HEADER + b"Resent-To: y@dest.example\nResent-Bcc: z@dest.example\n\nbody\n")
    assert got.recipients == ["y@dest.example", "z@dest.example"] and b"z@dest" not in got.content
    # what mailbox files have in front, and the options that steer other programs
    got = bed.send("-oem", "-odb", "-O", "ErrorMode=m", "-N", "failure", "-R", "hdrs", "-V", "id 7", "-h", "3", "-v",
                   "-Fx", "-r", "root", "root@dest.example", content=b"From anna Wed Nov 25\n>From x\n" + HEADER + b"\n\n")
    assert got.sender == "root@sender.example" and got.content.endswith(HEADER.replace(b"\n", b"\r\n") + b"\r\n\r\n")
    # nothing to do
    for arguments in (["-q"], ["-q30m"], ["-bi"], ["-I"]):
        assert bed.run(*arguments).returncode == 0
    done = bed.run("--version")
    assert done.stdout.startswith(b"mta-sendmail ") and not done.returncode
    assert b"-oi" in bed.run("--help").stdout
    # -bs: a client that speaks SMTP through us, and ends its side
    script = (b"EHLO me\r\nMAIL FROM:<anna>\r\nRCPT TO:<bert@dest.example>\r\nDATA\r\n" + HEADER.replace(b"\n", b"\r\n") +
              b"\r\n..dot\r\n.\r\nQUIT\r\n")
    done = bed.run("-bs", content=script)
    codes = [line[:3] for line in done.stdout.split(b"\r\n") if line[3:4] == b" "]
    assert not done.returncode and codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    got = bed.next()
    assert got.sender == "anna@sender.example" and got.content.endswith(b"\r\n\r\n.dot\r\n")
    # what an application lets strangers put into its arguments ends no field and no command
    got = bed.send("-F", "x\r\nBcc: eve@dest.example", "bert@dest.example", content=b"Subject: x\n\nbody\n")
    assert got.recipients == ["bert@dest.example"] and b"\nBcc" not in got.content and parsed(got)["From"].addresses[0].display_name
    for evil in ("a@dest.example>\r\nRCPT TO:<eve@dest.example", '"x>\r\nRCPT TO:<eve@dest.example>\r\nNOOP "@dest.example'):
        assert bed.refused("-f", evil, "bert@dest.example") and bed.refused(evil)
    # without a standard input the socket must not become one
    done = subprocess.run(["sh", "-c", 'exec "$0" -C "$1" -bs <&-', bed.mta.program("mta-sendmail"), str(bed.mta.config_path)],
                          env=bed.mta.environment(), capture_output=True, timeout=60)
    assert done.stdout.count(b"\r\n") == 1 and not bed.mta.events("reject")
    # -bp: as mtactl list
    done = bed.run("-bp")
    assert not done.returncode and done.stdout == bed.mta.ctl_run("list").stdout


def test_refusals(bed):
    bed = bed(max_message_size="64KiB", max_recipients=2)
    assert bed.refused(words="no recipient") == 64
    assert bed.refused("-Z", "a@b", words="unknown option") == 64
    assert bed.refused("-f", "a@b, c@d", "x@dest.example", words="-f: ") == 64
    assert bed.refused("-t", content=b"To: undisclosed-recipients:;\n\nx\n", words="To, Cc and Bcc") == 64
    assert bed.refused("-t", content=b"To: bert@dest.example, John Doe\n\nx\n", words="John Doe") == 65
    assert bed.refused("-t", content=b"To: \"x\n RCPT TO:<evil@x>\"@dest.example\n\nx\n") == 65
    assert bed.refused("a..b@dest..example", words="a..b@dest..example") == 64
    assert bed.refused("a@-", words="5.1.3") == 65
    assert bed.refused("bert@dest.example", content=HEADER + b"\na\rb\n", words="bare CR") == 65
    assert bed.refused("bert@dest.example", content=HEADER + b"\na\0b\n", words="NUL") == 65
    assert bed.refused("bert@dest.example", content=HEADER + b"To: x@y.example\n\nb\n", words="5.6.0") == 65
    assert bed.refused("bert@dest.example", content=b"X: y\n" * 60000, words="256 KiB") == 65
    assert bed.refused("bert@dest.example", content=b"Received: x\n" * 4 + HEADER, words="5.4.6") == 69
    assert bed.refused("bert@dest.example", content=HEADER + b"\n" + LINE * 1000, words="5.3.4") == 69
    assert bed.refused("-f", "a@b", "c@dest.example", "d@dest.example", "e@dest.example", words="4.5.3") == 75
    assert bed.refused("-bd") == 64
    # with more behind it than a pipe holds, the writer is not killed
    assert bed.refused("-t", content=b"To: <\n\n" + LINE * 20000) == 65
    bed.mta.stop()
    assert bed.refused("bert@dest.example", content=HEADER + LINE * 20000, words="not reachable") == 75
    done = bed.run("-bs")
    assert done.returncode == 75 and done.stdout.startswith(b"421 4.3.2 ")
    (bed.mta.folder / "mta.yaml").write_text("hostname: [")
    assert bed.refused("bert@dest.example", words="mta.yaml:") == 78
    assert bed.run("-C", "/nowhere", "a@dest.example").returncode == 78


def test_large_and_odd(bed):
    """A message of 20 MiB streams through 20 MiB of address space, libraries included; every octet arrives."""
    bed = bed()
    bed.peer.stop()  # it stays in the queue
    odd = bytes(c for c in range(1, 256) if c not in b"\r\n") * 3 + b"\n"
    body = b"..\n.x\n \t\n" + odd + LINE * (20 * 2 ** 20 // len(LINE)) + b"y" * 500000 + b"\nend"
    program = bed.mta.program("mta-sendmail").replace("/address/", "/release/")
    done = subprocess.run(["bash", "-c", 'ulimit -v 20480; exec "$0" "$@"', program, "-C", str(bed.mta.config_path), "-i",
                           "bert@dest.example"], input=HEADER + b"\n" + body, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    stored = bed.mta.ctl_run("cat", bed.mta.wait_event("accept")["id"]).stdout
    assert stored.split(b"\r\n\r\n", 1)[1] == body.replace(b"\n", b"\r\n") + b"\r\n"
