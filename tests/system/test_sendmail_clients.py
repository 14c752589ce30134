"""Programs of others that send by sendmail(1): PHP's mail(), s-nail, mutt, git send-email."""

import subprocess

import pytest

from vendors import ROOT

BODY = "Hello,\n.\n..\n.leading\nGr\u00fc\u00dfe\n"


def php(sendmail, run):
    code = 'exit(mail("bert@dest.example", "Subject", file_get_contents("php://stdin"), ' \
           '"From: anna@sender.example\\r\\nBcc: carl@dest.example", "-f anna@sender.example") ? 0 : 1);'
    run(str(ROOT.parent / "bin" / "php"), "-n", "-d", f"sendmail_path={sendmail} -t -i", "-r", code)


def snail(sendmail, run):
    run("s-nail", "-:/", "-S", f"mta={sendmail}", "-S", "sendwait", "-S", "sendcharsets=utf-8", "-S", "ttycharset=utf-8",
        "-S", "mime-encoding=8b", "-r", "anna@sender.example", "-s", "Subject", "-b", "carl@dest.example", "bert@dest.example")


def mutt(sendmail, run):
    run("mutt", "-n", "-F", "/dev/null", "-e", f'set sendmail="{sendmail} -oem -oi" sendmail_wait=0 allow_8bit=yes charset=utf-8 send_charset=utf-8',
        "-e", "set from=anna@sender.example use_envelope_from=yes copy=no", "-s", "Subject", "-b", "carl@dest.example", "--",
        "bert@dest.example")


def git(sendmail, run):
    patch = "From: Anna <anna@sender.example>\nSubject: Subject\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n" \
            "Content-Transfer-Encoding: 8bit\n\n" + BODY
    run("sh", "-c", 'cat >patch; exec git -c user.name=Anna -c user.email=anna@sender.example send-email --quiet "$@" patch', "x", f"--smtp-server={sendmail}",
        "--from=Anna <anna@sender.example>", "--envelope-sender=anna@sender.example", "--to=bert@dest.example",
        "--bcc=carl@dest.example", "--suppress-cc=all", "--confirm=never", "--no-thread", content=patch)


@pytest.mark.parametrize("client", [php, snail, mutt, git])
def test_client(start_mta, start_peer, to_peer, tmp_path, client):
    peer = start_peer()
    mta = start_mta(to_peer(peer), wait=False)
    mta.config["listeners"][0]["address"].append(f"unix:{tmp_path}/socket")
    mta.write_config()
    mta.start()
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\nexec {mta.program("mta-sendmail")} -C {mta.config_path} "$@"\n')
    sendmail.chmod(0o755)

    def run(*command, content=BODY):
        env = {**mta.environment(), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, cwd=tmp_path, env=env, input=content.encode(), capture_output=True, timeout=60)
        assert done.returncode == 0, done

    client(sendmail, run)
    peer.wait_for(lambda record: record.messages)
    got = peer.messages[0]
    assert (got.sender, sorted(got.recipients)) == ("anna@sender.example", ["bert@dest.example", "carl@dest.example"])
    header, body = got.content.split(b"\r\n\r\n", 1)
    assert body.rstrip() == BODY.replace("\n", "\r\n").encode().rstrip()
    for field in (b"From: ", b"To: bert@dest.example", b"Subject: Subject", b"Date: ", b"Message-I"):
        assert header.lower().count(b"\r\n" + field.lower()) == 1
    assert b"carl" not in header and b"bcc" not in header.lower()
    assert len(mta.events("accept")) == 1
