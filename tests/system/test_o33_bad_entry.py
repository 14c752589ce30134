"""Case O33: a queue record that does not decode is set aside and told; everything else goes on. The records are
spoilt from outside, between two runs."""

import lmdb
import pytest

from peer import Peer
from mta import free_port


def spoil(state, identity_number, change):
    """Change the rows of one message; returns how many."""
    store = lmdb.open(str(state / "queue"), max_dbs=32, subdir=True, map_size=1 << 34)
    rows = store.open_db(b"message", create=False)
    changed = 0
    with store.begin(write=True, db=rows) as txn:
        keys = [bytes(key) for key in txn.cursor().iternext(keys=True, values=False)]
        ids = sorted({key[:8] for key in keys})
        for key in keys:
            if key[:8] == ids[identity_number]:
                txn.put(key, change(bytes(txn.get(key))))
                changed += 1
    store.close()
    return changed


SPOILT = {
    "empty": lambda row: b"",
    "one byte": lambda row: row[:1],
    "cut": lambda row: row[:len(row) // 2],
    "unknown version": lambda row: b"\xfe" + row[1:],
    "wrong checksum": lambda row: row[:4] + bytes([row[4] ^ 1]) + row[5:],
    "one bit": lambda row: row[:-1] + bytes([row[-1] ^ 1]),
    "huge lengths": lambda row: row[:8] + b"\xff" * (len(row) - 8),
    "longer": lambda row: row + b"\0" * 100,
}


@pytest.mark.parametrize("kind", SPOILT)
def test_bad_entry(start_mta, closing, kind):
    port = free_port()
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{port}"]}], "retry": {"intervals": ["1s"]}})
    identities = [mta.submit("bert@dest.example", X_Test_Id=str(number)) for number in range(3)]
    mta.wait_event("deferred", count=3)
    mta.stop()
    assert spoil(mta.state, 1, SPOILT[kind]) >= 1

    peer = closing(Peer(port=port))
    mta.start()
    peer.wait_for(lambda record: len(record.accepted()) >= 2)
    assert set(peer.copies()) == {"0", "2"}
    mta.wait_event("delivered", id=identities[0])
    mta.wait_event("delivered", id=identities[2])
    told = mta.ctl_run("show", identities[1])
    assert told.returncode == 1 and b"damaged" in told.stdout + told.stderr
    assert identities[1].encode() in mta.ctl_run("list").stdout
    mta.stop()
    mta.start()  # and at the next start the same
    assert b"damaged" in mta.ctl_run("show", identities[1]).stderr + mta.ctl_run("show", identities[1]).stdout
    mta.wait_event("delivered", id=mta.submit("bert@dest.example", X_Test_Id="3"))
