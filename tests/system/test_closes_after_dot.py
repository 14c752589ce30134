"""The server closes after the final dot without a reply: the outcome is unknown, so the message is tried again
later, and not at once on the next host; the log and mtactl say so."""


def test_closes_after_dot(start_mta, start_peer):
    first = start_peer(script=[{"stage": "dot", "times": 1, "close": True}])
    second = start_peer()
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]}],
                     "retry": {"intervals": ["2s"]}})
    identity = mta.submit(["bert@dest.example", "carl@dest.example"], X_Test_Id="dot")

    deferred = mta.wait_event("deferred", id=identity)
    assert deferred["status"].startswith("4.4.")
    shown = mta.wait_show(identity, lambda it: it["recipients"][0]["attempts"])
    assert "unknown" in shown["recipients"][0]["attempts"][0]["text"].lower()
    assert not second.connections, "the next host was tried although the message may have been taken"

    mta.wait_event("delivered", id=identity, count=2)
    mta.wait_empty()
    assert first.copies() == {"dot": {"bert@dest.example": 1, "carl@dest.example": 1}}
    assert len(mta.events("deferred", id=identity)) == 2  # one a recipient
    assert not mta.events("bounced")
