"""Several hundred generated messages, signed by mta/mail and verified by two others: dkimpy and OpenDKIM.

Needs no daemon and no network: the signer is tests/tools/dkim_sign.c, the keys are given to the verifiers as files.
"""

import base64
import os
import pathlib
import random
import re
import shutil
import subprocess

import dkim
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MTA_BIN") or ROOT / "build" / "address" / "bin")
SIGNER = BIN / "dkim_sign"
FROM = b"From: Alice <alice@example.com>\r\n"
PLAIN = FROM + b"To: bob@example.net\r\nSubject: Lunch\r\n"
SIZES = (1024, 2048, 4096)


def opendkim():
    path = shutil.which("opendkim", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail("opendkim is missing: it is in the Debian package opendkim")
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for size in SIZES:
        path = folder / f"{size}.pem"
        subprocess.run(["openssl", "genrsa", "-out", path, str(size)], check=True, capture_output=True)
        der = subprocess.run(["openssl", "rsa", "-in", path, "-pubout", "-outform", "DER"],
                             check=True, capture_output=True).stdout
        made[size] = (path, b"v=DKIM1; k=rsa; p=" + base64.b64encode(der))
    return made


class Signer:
    """One process for all messages: its start under the sanitizer costs more than to sign."""

    def __init__(self):
        if not SIGNER.exists():
            pytest.fail(f"{SIGNER} is missing: build the target dkim_sign, or set MTA_BIN")
        self.process = subprocess.Popen([SIGNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, message, domain, selector, key):
        self.process.stdin.write(f"{domain} {selector} {key} {len(message)}\n".encode() + message)
        self.process.stdin.flush()
        length = self.process.stdout.readline()
        assert length.endswith(b"\n"), f"dkim_sign ended: {self.process.wait()}"
        field = self.process.stdout.read(int(length))
        assert len(field) == int(length)
        return field + message

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def sign():
    signer = Signer()
    yield signer
    signer.close()


def check_shape(signed, message, domain):
    """Cases O02: lines of at most 78 where a fold is legal, folds at legal places only."""
    field = signed[:len(signed) - len(message)]
    assert field.startswith(b"DKIM-Signature: v=1;") and field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    for line in lines:
        assert len(line) <= max(78, len(domain) + 4), line
    for line in lines[1:]:
        head = line[:1] + line[1:].split(b"=")[0]
        assert re.match(rb" (v|a|c|d|s|t|h|bh|b)$", head) or line.startswith(b" :") or \
            re.match(rb" [A-Za-z0-9+/]+=*$", line), line


def dkimpy_passes(signed, record):
    return dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)


class OpenDkim:
    """Gathers messages and has them all verified by one run."""

    def __init__(self, folder):
        self.folder = folder
        self.records = {}
        self.files = []

    def add(self, name, signed, domain, selector, record):
        path = self.folder / f"{len(self.files):04}"
        path.write_bytes(signed)
        self.files.append((name, str(path)))
        self.records[f"{selector}._domainkey.{domain}"] = record.decode()

    def passed(self):
        """The names that verify, of those added."""
        config = self.folder / "conf"
        records = self.folder / "records"
        records.write_text("".join(f"{name} {text}\n" for name, text in self.records.items()))
        config.write_text(f"Mode v\nTestPublicKeys {records}\nSyslog no\n")
        good = set()
        for start in range(0, len(self.files), 100):
            some = self.files[start:start + 100]
            done = subprocess.run([opendkim(), "-x", config, "-t", ",".join(path for _, path in some)],
                                  capture_output=True, timeout=120)
            output = done.stdout + done.stderr
            for name, path in some:
                verdict = re.search(re.escape(path.encode()) + rb": (.*)", output)
                assert verdict, (name, output)
                if b"succeeded" in verdict.group(1):
                    good.add(name)
        return good


def bodies():
    yield "empty", b""
    yield "one blank line", b"\r\n"
    yield "blank lines", b"\r\n\r\n\r\n"
    yield "white lines", b" \r\n\t\r\n \t \r\n"
    yield "trailing white", b"a \t\r\nb\t\r\n \r\n"
    yield "leading white", b"  a\r\n\t\tb\r\n"
    yield "trailing blanks", b"a\r\n" * 3 + b"\r\n" * 20
    yield "leading blanks", b"\r\n" * 20 + b"a\r\n"
    yield "runs", b"a  b \t c\t\td\r\n" * 10
    yield "dots", b".\r\n..\r\n.a\r\n"
    yield "8-bit", "Grüße aus Köln — 日本語\r\n".encode() * 20
    yield "latin", bytes(range(0xa0, 0x100)) + b"\r\n"
    yield "998", b"x" * 998 + b"\r\n"
    yield "From ", b"From here\r\n>From there\r\n"
    yield "signature", b"text\r\n-- \r\nMe\r\n"
    yield "base64", b"QUJD" * 19 + b"\r\n"
    yield "large", (b"The quick brown fox.  Jumps \r\n" * 40 + b"\r\n") * 100


def sections():
    yield "folded", PLAIN + b"References: <1@a>\r\n <2@a>\r\n\t<3@a>\r\n"
    yield "folded first", FROM + b"Subject:\r\n Lunch\r\nTo:\r\n\tbob@example.net\r\n"
    yield "white", FROM + b"Subject: \t a  b \t c  \r\nTo:bob@example.net\r\n"
    yield "empty value", FROM + b"Subject:\r\nTo: \r\nCc:  \t \r\n"
    yield "cases", b"fRoM: a@example.com\r\nSUBJECT: x\r\nmime-VERSION: 1.0\r\n"
    yield "8-bit", FROM + "Subject: Grüße\r\nTo: Jörg <j@example.net>\r\n".encode()
    yield "encoded", FROM + b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?b?w6Q=?=\r\n"
    yield "trace", b"Received: from a by b; x\r\nReceived: from c by d;\r\n\ty\r\n" + PLAIN
    yield "lists", PLAIN + b"List-Id: <1>\r\nList-Id: <2>\r\nList-Unsubscribe: <m>\r\n" \
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Unsubscribe: <n>\r\n"
    yield "resent", b"Resent-From: r@example.org\r\nResent-To: s@example.org\r\n" + PLAIN
    yield "semicolons", FROM + b"Subject: a; b=c; h=x; d=y\r\n"
    yield "long value", FROM + b"Subject: " + b"y" * 950 + b"\r\n"
    yield "mime", PLAIN + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"x y\"\r\n" \
        b"Content-Transfer-Encoding: 8bit\r\nDate: Wed, 25 Nov 2026 00:52:06 +0000\r\n" \
        b"Message-ID: <1@example.com>\r\nReply-To: r@example.com\r\nSender: s@example.com\r\n" \
        b"In-Reply-To: <2@example.com>\r\n"
    for count in range(1, 41):
        names = (b"To", b"Cc", b"References", b"Subject")
        yield f"{count} repeated", FROM + b"".join(
            b"%s: %d\r\n" % (names[i % len(names)], i) for i in range(count))


def random_messages(count):
    """Header and body of white space, text and 8-bit bytes in any order (CRLF line ends only)."""
    rng = random.Random(6376)
    pieces = (b" ", b"\t", b"  ", b"a", b"word", b"\xc3\xa4", b"=", b";", b":", b"\r\n")
    for i in range(count):
        section = FROM
        for _ in range(rng.randrange(8)):
            name = rng.choice((b"Subject", b"To", b"Cc", b"X-Any", b"References", b"Received"))
            value = b"".join(rng.choice(pieces[:-1]) if rng.random() < 0.9 else b"\r\n x"
                             for _ in range(rng.randrange(30)))
            section += name + b":" + value + b"\r\n"
        body = b"".join(rng.choice(pieces) for _ in range(rng.randrange(200)))
        yield f"random {i}", section + b"\r\n" + (body + b"\r\n" if body else b"")


def cases():
    for name, body in bodies():
        for size in SIZES:
            yield f"body {name} {size}", PLAIN + b"\r\n" + body, "example.com", "s1", size
    for name, section in sections():
        yield f"header {name}", section + b"\r\nbody \r\n", "example.com", "s1", 2048
    for length in range(1, 61):
        label = ("x" * length)[:60]
        yield f"d of {length}", PLAIN + b"\r\nbody\r\n", label, "s1", 2048
        yield f"s of {length}", PLAIN + b"\r\nbody\r\n", "example.com", label, 1024
        yield f"both of {length}", PLAIN + b"\r\nbody\r\n", label, label, 4096
    for name, message in random_messages(100):
        yield name, message, "example.com", "s1", 2048


def test_all_verify(keys, sign, tmp_path):
    judge = OpenDkim(tmp_path)
    names = []
    for name, message, domain, selector, size in cases():
        path, record = keys[size]
        # One name has one key: the size goes into the selector where the test leaves it free.
        if selector == "s1":
            selector = f"s{size}"
        signed = sign(message, domain, selector, path)
        check_shape(signed, message, domain)
        assert dkimpy_passes(signed, record), name
        judge.add(name, signed, domain, selector, record)
        names.append(name)
    assert len(names) == len(set(names)) and len(names) > 380
    assert set(names) - judge.passed() == set()


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_empty_body_hash(keys, sign, body):
    """Cases O01."""
    signed = sign(PLAIN + b"\r\n" + body, "example.com", "s1", keys[2048][0])
    assert b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;" in signed


def test_changes_fail(keys, sign, tmp_path):
    """Cases O03: each copy put in front, each letter changed, is seen by both verifiers."""
    path, record = keys[2048]
    message = PLAIN + b"Cc: c@example.net\r\nList-Id: <1>\r\n\r\nHello  Bob,\r\n\r\nlunch?\r\n"
    signed = sign(message, "example.com", "s1", path)
    changed = {"own " + str(i): signed.replace(old, new) for i, (old, new) in enumerate((
        (b"Lunch", b"Launch"), (b"Hello", b"Hell0"), (b"lunch?\r\n", b"lunch?\r\n.\r\n"),
        (b"List-Id: <1>", b"List-Id: <2>"), (b"t=1795567926", b"t=1795567927"),
        (b"Cc: c@example.net\r\n", b"")))}
    for name in ("From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID", "Content-Type",
                 "MIME-Version"):
        changed["copy of " + name] = name.encode() + b": x\r\n" + signed
    same = {"white space": signed.replace(b"Hello  Bob,", b"Hello \t Bob, "),
            "trailing lines": signed + b"\r\n\r\n",
            "unsigned field": b"Received: from x by y; z\r\n" + signed,
            "name case": signed.replace(b"\r\nSubject:", b"\r\nSUBJECT:")}
    judge = OpenDkim(tmp_path)
    for name, text in {**changed, **same}.items():
        assert text != signed, name
        assert dkimpy_passes(text, record) == (name in same), name
        judge.add(name, text, "example.com", "s1", record)
    assert judge.passed() == set(same)


def test_second_signature(keys, sign, tmp_path):
    """A message that somebody signed before us: both signatures pass."""
    message = PLAIN + b"\r\nbody\r\n"
    first = sign(message, "other.example", "s1024", keys[1024][0])
    both = sign(first, "example.com", "s2048", keys[2048][0])
    records = {b"s1024._domainkey.other.example.": keys[1024][1],
               b"s2048._domainkey.example.com.": keys[2048][1]}
    for index in (0, 1):
        check = dkim.DKIM(both)
        assert check.verify(idx=index, dnsfunc=lambda name, timeout=5: records[name])
    judge = OpenDkim(tmp_path)
    judge.add("before", first, "other.example", "s1024", keys[1024][1])
    judge.add("after", both, "example.com", "s2048", keys[2048][1])
    assert judge.passed() == {"before", "after"}
