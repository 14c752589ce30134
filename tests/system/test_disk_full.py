"""The disk fills up: new mail gets 452 4.3.1, nothing accepted is lost, deliveries free the space again, and service
goes on without a restart."""

import pytest

from mta import free_port, message
from sink import Sink

BODY = ("x" * 76 + "\r\n") * 3000


def fill(mta):
    """Submit until 452; returns the keys that got 250."""
    taken = []
    for number in range(2000):
        with mta.smtp() as client:
            client.ehlo()
            code, text = client.mail("anna@sender.example")
            if code == 250:
                assert client.rcpt("bert@dest.example")[0] == 250
                code, text = client.docmd("DATA")
                if code == 354:
                    client.send(message(X_Test_Id=str(number), body=BODY) + b".\r\n")
                    code, text = client.getreply()
        if code == 250:
            taken.append(str(number))
            continue
        assert code == 452 and b"4.3.1" in text, (code, text)
        return taken
    raise AssertionError("never full")


@pytest.mark.parametrize("how", ["disk", "max_size"])
def test_full(start_mta, closing, tmp_path, how):
    port = free_port()
    config = {"routes": [{"to": [f"127.0.0.1:{port}"]}], "retry": {"intervals": ["1s"]}}
    wrapper = []
    if how == "disk":
        place = tmp_path / "small"
        place.mkdir()
        config["state_dir"] = str(place)
        config["control_socket"] = str(tmp_path / "control")
        wrapper = ["unshare", "--mount", "sh", "-c",
                   f'mount -t tmpfs -o size=40m tmpfs "{place}" && exec "$@"', "sh"]
    else:
        config["queue"] = {"max_size": "24MiB"}
    mta = start_mta(config, wrapper=wrapper)
    taken = fill(mta)
    assert len(taken) > 20
    assert mta.queued() == len(taken)

    sink = closing(Sink(port=port))
    sink.wait_for(len(taken), timeout=60)
    mta.wait_empty(seconds=60)
    assert sink.counts == {key: 1 for key in taken}
    for number in range(5):  # accepts again
        mta.submit("bert@dest.example", message(X_Test_Id=f"after{number}", body=BODY))
    mta.wait_empty()
    assert not mta.events("bounced")
