"""Case O18: recipients answered 250, 550, 451, 250: two delivered once, one bounced with its own reply, one retried."""

import pytest

from dsn import Dsn
from peer_serving import EXTENSIONS

RECIPIENTS = ["one@dest.example", "two@dest.example", "three@dest.example", "four@dest.example"]
SCRIPT = [{"stage": "rcpt", "address": "two@dest.example", "reply": "550 5.7.1 two is not wanted"},
          {"stage": "rcpt", "address": "three@dest.example", "times": 1, "reply": "451 4.2.2 three is busy"}]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
def test_mixed_recipients(start_mta, start_peer, to_peer, pipelining):
    peer = start_peer(script=SCRIPT,
                      extensions=[e for e in EXTENSIONS if pipelining or e != "PIPELINING"])
    mta = start_mta(to_peer(peer))
    identity = mta.submit(RECIPIENTS, X_Test_Id="mixed")
    mta.wait_event("delivered", id=identity, count=3)
    mta.wait_empty()
    assert peer.copies()["mixed"] == {"one@dest.example": 1, "three@dest.example": 1, "four@dest.example": 1}

    mine = [message for message in peer.messages if message.header("X-Test-Id") == "mixed"]
    assert mine[0].recipients == ["one@dest.example", "four@dest.example"]
    assert mine[1].recipients == ["three@dest.example"] and not mine[1].refused
    reports = peer.accepted("anna@sender.example")
    assert len(reports) == 1
    report = Dsn(reports[0].content)
    assert list(report.recipients) == ["two@dest.example"]
    assert "two is not wanted" in report.recipients["two@dest.example"]["Diagnostic-Code"]
    assert [event["recipient"] for event in mta.events("deferred", id=identity)] == ["three@dest.example"]
    assert [event["recipient"] for event in mta.events("bounced", id=identity)] == ["two@dest.example"]

    first = peer.connections[0]
    written = [data for _, data in first.reads if b"MAIL FROM" in data]
    assert (b"RCPT TO" in written[0] and b"DATA" in written[0]) == pipelining


@pytest.mark.crash
@pytest.mark.parametrize("delay", [0, 0.003, 0.01])
def test_killed_behind_the_last_250(start_mta, closing, to_peer, delay):
    """kill -9 right after the server's 250 to the dot: at most the two accepted ones may repeat."""
    import threading
    from peer import Peer

    dot = threading.Event()
    peer = closing(Peer(script=SCRIPT, on_event=lambda event: dot.set()
                        if event["event"] == "reply" and event["stage"] == "dot" else None))
    mta = start_mta(to_peer(peer))
    mta.submit(RECIPIENTS, X_Test_Id="mixed")
    assert dot.wait(10)
    if delay:
        dot.clear()
        dot.wait(delay)
    mta.kill()
    mta.start()
    mta.wait_empty()
    peer.wait_for(lambda record: record.accepted("three@dest.example"))
    copies = peer.copies()
    assert set(copies["mixed"]) == {"one@dest.example", "three@dest.example", "four@dest.example"}
    assert copies["mixed"]["three@dest.example"] == 1
    assert copies["mixed"]["one@dest.example"] in (1, 2) and copies["mixed"]["four@dest.example"] in (1, 2)
    reports = peer.accepted("anna@sender.example")
    assert len(reports) == 1 and list(Dsn(reports[0].content).recipients) == ["two@dest.example"]
