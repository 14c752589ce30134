"""Case O35: expiry holds whatever state a message is in, and a wedged server holds up nobody else."""

import time

import pytest

STALLS = {
    "greeting by the byte": {"stage": "greeting", "raw": "220 peer.example ESMTP\r\n", "pieces": 1, "interval": 2},
    "no greeting": {"stage": "greeting", "silence": True},
    "reads slowly": {"stage": "content", "read_bytes": 1, "interval": 1},
    "silent at RCPT": {"stage": "rcpt", "silence": True},
}


@pytest.mark.parametrize("kind", STALLS)
def test_wedged_server(start_mta, start_peer, kind):
    bad, good = start_peer(script=[STALLS[kind]], receive_buffer=4096), start_peer()
    mta = start_mta({"routes": [{"match": {"recipients": ["bad.example"]}, "to": [f"127.0.0.1:{bad.port}"]},
                                {"to": [f"127.0.0.1:{good.port}"]}],
                     "retry": {"intervals": ["1s"], "expire": "4s"},
                     "timeouts": {"greeting": "3s", "ehlo": "3s", "mail": "3s", "rcpt": "3s", "data": "3s",
                                  "block": "3s", "dot": "3s", "total": "4s"}})
    begun = time.monotonic()
    wedged = [mta.submit("bert@bad.example") for _ in range(40)]
    for number in range(20):
        mta.submit("bert@good.example", X_Test_Id=f"good{number}")
    good.wait_for(lambda record: sum(m.header("X-Test-Id") is not None for m in record.accepted()) == 20)
    assert time.monotonic() - begun < 5, "the good ones waited for the bad one"
    listed = {unit["id"]: unit for unit in mta.ctl("list")}
    assert set(wedged) & set(listed)
    mta.wait_empty(seconds=25)
    reports = good.accepted("anna@sender.example")
    assert len(reports) == 40
    for identity in wedged:
        assert mta.events("expired", id=identity) or mta.events("bounced", id=identity)
