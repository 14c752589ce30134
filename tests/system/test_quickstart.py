"""`sh mta/quickstart.sh` in a fresh copy of the tree: it builds, a message goes the whole way; a second run takes
seconds; a taken port is reported; it stops what it started."""

import socket
import subprocess
import time

import pytest

from mta import ROOT


def copy_tree(target):
    listed = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], check=True, capture_output=True).stdout
    target.mkdir()
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", str(target)], input=listed, cwd=ROOT, check=True)


def quickstart(tree, *arguments, **environment):
    done = subprocess.run(["env", *(f"{key}={value}" for key, value in environment.items()), "sh", "mta/quickstart.sh",
                           *arguments], cwd=tree, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=280)
    return done.returncode, done.stdout.decode()


@pytest.mark.heavy
def test_quickstart(tmp_path):
    tree = tmp_path / "tree"
    copy_tree(tree)
    try:
        with socket.create_server(("127.0.0.1", 2587)):
            code, text = quickstart(tree, MTA_PORT=2587)
        assert code == 1 and "Port 2587" in text and "taken" in text
        assert quickstart(tree, "stop")[0] == 0
        subprocess.run(["rm", "-r", str(tree / "mta-sandbox")], check=True)

        code, text = quickstart(tree)
        assert code == 0, text
        for expected in ("localhost:587", "accept ", "delivered ", "DKIM        pass", "encrypted   TLSv1.3"):
            assert expected in text, text

        begun = time.monotonic()
        code, text = quickstart(tree)
        assert code == 0 and "runs already" in text and "DKIM        pass" in text, text
        assert time.monotonic() - begun < 20
        changed = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(ROOT), "check-ignore", "mta-sandbox/x",
                                  "build/x"], capture_output=True)
        assert changed.returncode == 0, "what it makes is not ignored by git"
    finally:
        code, text = quickstart(tree, "stop")
    assert code == 0 and text.count("has ended") == 2
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 587), 1)
