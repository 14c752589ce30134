"""Case O20: whatever bytes a reply holds, a log line stays one line, the queue entry loads again, a DSN is valid."""

import pytest

from dsn import Dsn

ODD = {
    "escape": "\x1b[2J\x1b]0;title\x07 gone",
    "high bytes": "".join(map(chr, range(0x80, 0x100))),
    "carriage return": "first\rsecond\r250 ok",
    "NUL": "before\0after",
    "long": "x" * 900,
    "format": "%s%n%s%n%d%x",
    "fields": '","event":"delivered","id":"0000000000000"} recipient=x state=delivered',
    "controls": "".join(map(chr, [*range(1, 10), 11, 12, *range(14, 32), 127])),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_reply(start_mta, start_peer, to_peer, kind):
    peer = start_peer(script=[{"stage": "rcpt", "address": "later@dest.example", "reply": "450 4.2.0 " + ODD[kind]},
                              {"stage": "rcpt", "address": "never@dest.example", "reply": "550 5.2.0 " + ODD[kind]}])
    mta = start_mta(to_peer(peer, retry={"intervals": ["1h"]}))
    identity = mta.submit(["later@dest.example", "never@dest.example", "now@dest.example"], X_Test_Id="odd")
    mta.wait_event("delivered", id=identity)
    mta.wait_event("deferred", id=identity)
    bounced = mta.wait_event("bounced", id=identity)
    assert bounced["recipient"] == "never@dest.example"
    assert len(mta.events("delivered", id=identity)) == 1

    peer.wait_for(lambda record: record.accepted("anna@sender.example"))
    content = peer.accepted("anna@sender.example")[0].content
    report = Dsn(content)
    assert set(report.recipients) == {"never@dest.example"}
    assert not any(byte < 32 and byte not in b"\r\n\t" or byte == 127 for byte in content)

    mta.stop()
    mta.start()
    shown = mta.ctl("show", identity)
    states = {recipient["address"]: recipient["state"] for recipient in shown["recipients"]}
    assert states["later@dest.example"] in ("waiting", "deferred", "queued")
    text = mta.ctl_run("show", identity).stdout
    assert text and not any(byte < 32 and byte not in b"\n\t" or byte == 127 for byte in text)
    text.decode("utf-8")
    for line in mta.log().splitlines():
        assert line.startswith("{") and line.endswith("}")
