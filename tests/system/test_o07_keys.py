"""Case O07: a signing key is loaded, or refused with its file and a reason, at start and at reload; mail of its domain
never leaves unsigned."""

import base64
import subprocess

import dkim

GOOD = {
    "pkcs8": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "pkcs8"],
    "pkcs1": ["rsa", "-in", "pkcs8", "-traditional", "-out", "pkcs1"],
}
BAD = {
    "ed25519": ["genpkey", "-algorithm", "ed25519", "-out", "ed25519"],  # not yet
    "encrypted": ["pkcs8", "-topk8", "-in", "pkcs8", "-passout", "pass:x", "-out", "encrypted"],
    "public": ["pkey", "-in", "pkcs8", "-pubout", "-out", "public"],
    "short": ["genrsa", "-out", "short", "512"],
    "empty": None,
    "absent": None,
}


def openssl(folder, *arguments):
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True).stdout


def record(folder, name):
    public = openssl(folder, "pkey", "-in", name, "-pubout", "-outform", "DER")
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def test_keys(start_mta, start_peer, to_peer, tmp_path):
    for name, command in {**GOOD, **BAD}.items():
        if command:
            openssl(tmp_path, *command)
    (tmp_path / "empty").write_text("")
    records = {f"{name}._domainkey.sender.example.".encode(): record(tmp_path, name) for name in GOOD}
    (tmp_path / "key").write_bytes((tmp_path / "pkcs1").read_bytes())
    files = {"pkcs1": "key", "pkcs8": "pkcs8"}

    def signers(files):
        return {"dkim": [{"domain": "sender.example", "selector": selector, "key": str(tmp_path / file)}
                         for selector, file in files.items()]}

    peer = start_peer()
    mta = start_mta(to_peer(peer), wait=False)
    for name in BAD:
        mta.write_config(signers({**files, "pkcs8": name}))
        code, text = mta.run_once()
        assert code in (1, 2) and str(tmp_path / name) in text, (name, code, text)
        assert not mta.events("start", level="info")
    mta.write_config(signers(files))
    mta.start()

    def signed(count):
        mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
        got = peer.messages[count - 1].content
        assert got.count(b"DKIM-Signature:") == len(GOOD)
        for index in range(len(GOOD)):
            assert dkim.DKIM(got).verify(idx=index, dnsfunc=lambda name, timeout=5: records[name])

    signed(1)
    for count, name in enumerate(("encrypted", "empty"), 2):
        (tmp_path / "key").write_bytes((tmp_path / name).read_bytes())
        done = mta.ctl_run("reload")
        assert done.returncode == 1 and str(tmp_path / "key").encode() in done.stdout + done.stderr, done
        signed(count)
