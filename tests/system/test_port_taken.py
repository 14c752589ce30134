"""The port is taken, or another mtad holds the queue: exit 1 with words that say which."""

import socket



def test_port_taken(start_mta):
    mta = start_mta(wait=False)
    with socket.create_server(("127.0.0.1", mta.port)):
        code, text = mta.run_once()
    assert code == 1 and f"127.0.0.1:{mta.port}" in text and "in use" in text.lower()


def test_second_daemon_on_one_queue(start_mta):
    first = start_mta()
    second = start_mta({"state_dir": str(first.state), "control_socket": "other"}, wait=False)
    code, text = second.run_once()
    assert code == 1 and str(first.process.pid) in text
    first.submit("bert@dest.example")


def test_second_daemon_on_one_port(start_mta):
    first = start_mta()
    second = start_mta(wait=False, port=first.port)
    code, text = second.run_once()
    assert code == 1 and str(first.port) in text
