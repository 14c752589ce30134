"""A server that hangs up on one message says nothing of the others; and every address that was tried is told."""

from mta import free_port, message


def test_one_poisoned_message_spares_the_others(start_mta, start_peer):
    peer = start_peer(script=[{"stage": "content", "after": 20000, "close": True, "transaction": 1}])
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{peer.port}"]}], "retry": {"intervals": ["1h"]},
                     "delivery": {"site": {"connections": 1}}})
    poison = mta.submit("bert@dest.example", message(X_Test_Id="poison") + b"y" * 70 + b"\r\n" + (b"z" * 76 + b"\r\n") * 5000)
    others = [mta.submit("bert@dest.example", X_Test_Id=f"other{number}") for number in range(5)]
    mta.wait_event("deferred", id=poison)
    for identity in others:
        mta.wait_event("delivered", id=identity)
        assert not mta.events("deferred", id=identity)


def test_each_address_of_an_attempt_is_told(start_mta, start_peer):
    refusing = start_peer(script=[{"stage": "greeting", "reply": "554 5.7.1 not you"}])
    closed = free_port()
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{closed}", f"127.0.0.2:{refusing.port}", f"127.0.0.1:{refusing.port}"]}],
                     "retry": {"intervals": ["1h"]}})
    identity = mta.submit("bert@dest.example")
    deferred = mta.wait_event("deferred", id=identity)
    assert "not you" in deferred["reply"] and "refused" in deferred["reply"]
    told = mta.events("attempt", id=identity)
    assert [event["address"] for event in told] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    assert told[2]["code"] == 554 and told[2]["sender"] == "anna@sender.example"
    text = mta.ctl("show", identity)["recipients"][0]["attempts"][0]["text"]
    assert "127.0.0.2" in text and "not you" in text and "refused" in text


def test_removed_names_whose_mail_it_was(start_mta):
    mta = start_mta({"routes": [{"to": [f"127.0.0.1:{free_port()}"]}], "retry": {"intervals": ["1h"]}})
    identity = mta.submit(["bert@dest.example", "carl@other.example"])
    mta.wait_event("deferred", id=identity, count=2)
    assert mta.ctl_run("delete", identity).returncode == 0
    removed = [mta.wait_event("removed", id=identity, count=number) for number in (1, 2)]
    assert {event["recipient"] for event in removed} == {"bert@dest.example", "carl@other.example"}
    assert all(event["sender"] == "anna@sender.example" for event in removed)
