"""Case O37: a configuration that is not right is refused with its place, by mtad, --check, mtactl check and reload."""

import pytest

GOOD = """\
hostname: mta.sender.example
user: root
state_dir: %(state)s
listeners:
  - address: "127.0.0.1:%(port)d"
    auth: off
routes:
  - to: ["127.0.0.1:9"]
"""
# (what is laid over the text: old, new), line:column that must be named, word that must be said
WRONG = {
    "misspelt key": (("listeners:", "lisen:"), "4:1", "listeners"),
    "misspelt in a list": (("auth: off", "auht: off"), "6:5", "auth"),
    "letter case": (("hostname:", "Hostname:"), "1:1", "hostname"),
    "dkim key misspelt": (("routes:", "dkim: [{domian: x.example}]\nroutes:"), "7:9", "domain"),
    "unknown policy": (("auth: off", "tls: requird"), "6:10", "required"),
    "port with a space": (('"127.0.0.1:%(port)d"', '"127.0.0.1:587 "'), "5:14", ""),
    "port too big": (('"127.0.0.1:%(port)d"', '"127.0.0.1:65536"'), "5:14", ""),
    "list for a map": (("routes:", "delivery: [1, 2]\nroutes:"), "7:11", ""),
    "map for a list": (('to: ["127.0.0.1:9"]', "to: {a: b}"), "8:9", ""),
    "tab": (("    auth: off", "\tauth: off"), "6:1", ""),
    "wrong level": (("routes:", "max_message_size: 1MiB\nroutes:"), "7:1", "listeners"),
    "given twice": (("user: root", "user: root\nuser: root"), "3:1", "user"),
    "no unit": (("routes:", "timeouts: {dot: 10}\nroutes:"), "7:17", ""),
    "not there yet": (("auth: off", "auth: required"), "6:11", ""),
    "certificate missing": (("auth: off", "tls: implicit"), "6:10", "certificate"),
}


def write(mta, change=None):
    text = GOOD
    if change:
        assert change[0] in text
        text = text.replace(change[0], change[1], 1)
    mta.config_path.write_text(text % {"state": mta.state, "port": mta.port})


@pytest.mark.parametrize("kind", WRONG)
def test_refused_with_its_place(start_mta, kind):
    change, place, word = WRONG[kind]
    mta = start_mta(wait=False)
    write(mta, change)
    for arguments in ([], ["--check"]):
        code, text = mta.run_once(*arguments)
        assert code == 2, (code, text)
        assert f"mta.yaml:{place}: " in text and word in text, text
    done = mta.ctl_run("check")
    assert done.returncode != 0
    assert f"mta.yaml:{place}: ".encode() in done.stdout + done.stderr
    assert not mta.state.exists()


def test_empty_file(start_mta):
    mta = start_mta(wait=False)
    mta.config_path.write_text("")
    code, text = mta.run_once("--check")
    assert code == 2 and "mta.yaml:" in text


def test_missing_file_and_bad_usage(start_mta):
    mta = start_mta(wait=False)
    mta.config_path.unlink()
    code, text = mta.run_once()
    assert code == 2 and "mta.yaml" in text
    code, text = mta.run_once("--no-such-option")
    assert code == 2 and "no-such-option" in text


def test_good_file(start_mta):
    mta = start_mta(wait=False)
    write(mta)
    assert mta.run_once("--check")[0] == 0
    assert mta.ctl_run("check").returncode == 0


@pytest.mark.parametrize("way", ["mtactl", "SIGHUP"])
def test_reload(start_mta, start_peer, way):
    """A faulty file changes nothing and is told; a good one counts from then on."""
    import signal
    mta = start_mta()
    peer = start_peer()
    write(mta, WRONG["misspelt key"][0])
    if way == "mtactl":
        done = mta.ctl_run("--socket", str(mta.state / "control"), "reload")
        assert done.returncode == 1 and b"mta.yaml:4:1: " in done.stdout + done.stderr
    else:
        mta.signal(signal.SIGHUP)
    assert "mta.yaml:4:1: " in str(mta.wait_event("reload"))
    with mta.smtp() as client:
        assert client.noop()[0] == 250

    mta.write_config({"routes": [{"to": [f"127.0.0.1:{peer.port}"]}]})
    if way == "mtactl":
        assert mta.ctl_run("reload").returncode == 0
    else:
        mta.signal(signal.SIGHUP)
    mta.wait_event("reload", count=2)
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
