"""/metrics and /healthz of a running mtad: true numbers after real mail, also under load and with clients that hold on;
an address that is taken, that moves, that speaks IPv6."""

import json
import signal
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from load import Load
from mta import free_port
from prometheus import Page, check_monotonic, fetch, scrape


@pytest.fixture
def start(start_mta, start_peer, to_peer):
    """start(script, ...) -> (mta, its metrics' address); mail goes to a peer with that script."""
    def run(script=(), host="127.0.0.1", sink=None, wait=True, config=None, **options):
        address = f"{host}:{free_port()}"
        peer = sink or start_peer(script=list(script))
        return start_mta(to_peer(peer, metrics={"address": address}, **(config or {})), wait=wait, **options), address

    return run


def wait_for(address, predicate, seconds=20):
    end = time.monotonic() + seconds
    while True:
        page = scrape(address)
        if predicate(page):
            return page
        assert time.monotonic() < end, "\n".join(f"{key} {value}" for key, value in page.samples().items())
        time.sleep(0.1)


def test_true_numbers_after_real_mail(start):
    """Three delivered, one bounced (its bounce has nowhere to go), two that wait."""
    mta, address = start([{"stage": "rcpt", "address": "no@dest.example", "reply": "550 5.1.1 no"},
                          {"stage": "rcpt", "address": "later@dest.example", "reply": "450 4.2.0 later"},
                          {"stage": "rcpt", "address": "more@dest.example", "reply": "450 4.2.0 later"}],
                         config={"retry": {"intervals": ["1h"]}})
    before = scrape(address)
    assert before["mta_queue_messages"] == 0 and before["mta_queue_oldest_message_age_seconds"] == 0
    for who in ("a", "b", "c", "no"):
        mta.submit(f"{who}@dest.example")
    mta.submit(["later@dest.example", "more@dest.example"])
    mta.submit("later@dest.example")
    with mta.smtp() as session:
        session.ehlo()
        assert session.rcpt("nobody@dest.example")[0] == 503
        page = wait_for(address, lambda page: page["mta_submission_sessions"] == 1)
    check_monotonic(before, page)
    # The bounce of the fourth goes to the peer as well: delivered.
    page = wait_for(address, lambda page: page["mta_delivery_recipients_total{outcome=delivered}"] == 4
                    and page["mta_delivery_recipients_total{outcome=deferred}"] == 3
                    and page["mta_queue_messages"] == 2 == page["mta_queue_units{state=deferred}"])
    assert page["mta_delivery_recipients_total{outcome=bounced}"] == 1
    assert page["mta_submission_messages_total"] == 6 and page["mta_submission_rejects_total"] == 1
    assert page["mta_queue_accepted_messages_total"] == 6 == page["mta_queue_accept_duration_seconds_count"]
    assert page["mta_submission_accept_duration_seconds_count"] == 6
    assert page["mta_submission_accept_duration_seconds_sum"] >= page["mta_queue_accept_duration_seconds_sum"]
    assert page["mta_queue_units{state=queued}"] == 0
    assert page["mta_queue_commits_total"] >= page["mta_queue_commit_duration_seconds_count"] > 0
    assert 0 < page["mta_queue_message_bytes"] < page["mta_queue_file_bytes"] < page["mta_queue_max_bytes"]
    assert 0 < page["mta_queue_oldest_message_age_seconds"] < 60
    assert abs(page["mta_process_start_time_seconds"] - time.time()) < 60
    status = mta.ctl("status")
    assert page["mta_queue_messages"] == status["queued"]
    check_scan(address)
    shown = fetch(address)[2]
    for secret in ("dest.example", "anna", str(mta.state)):
        assert secret not in shown


def check_scan(address):
    page = wait_for(address, lambda page: "mta_queue_scan_messages" in page
                    and page["mta_queue_scan_messages{state=deferred,min_age=0}"] == 2)
    assert page["mta_queue_scan_messages{state=deferred,min_age=3600}"] == 0
    assert page["mta_queue_scan_messages{state=queued,min_age=0}"] == 0
    assert abs(page["mta_queue_scan_oldest_timestamp_seconds{state=deferred}"] - time.time()) < 60
    assert abs(page["mta_queue_scan_timestamp_seconds"] - time.time()) < 60


def test_the_reference_reader_agrees(start):
    mta, address = start()
    mta.submit("bert@dest.example")
    wait_for(address, lambda page: "mta_queue_scan_messages" in page)
    text = fetch(address)[2]
    theirs = {(sample.name, frozenset(sample.labels.items())): sample.value
              for family in text_string_to_metric_families(text) for sample in family.samples}
    ours = {(name, frozenset(labels)): value for (name, labels), value in Page(text).samples().items()}
    assert ours == theirs


@pytest.mark.heavy
def test_scrapes_under_load(start, start_sink, closing):
    """Pages while 3,000 messages pass: each one whole, nothing ever falls, and the sums are right at the end."""
    sink = start_sink()
    mta, address = start(sink=sink, build="release")
    load = closing(Load(mta, clients=20, count=3000, size=4096))
    page, slowest, scrapes = scrape(address), 0.0, 0
    while len(sink.messages) < 3000:
        begun = time.monotonic()
        after = scrape(address)
        slowest, scrapes = max(slowest, time.monotonic() - begun), scrapes + 1
        check_monotonic(page, after)
        page = after
        time.sleep(0.05)
    load.finish()
    mta.wait_empty(60)
    print(f"{scrapes} scrapes, the slowest {slowest:.3f} s")
    page = wait_for(address, lambda page: page["mta_delivery_recipients_total{outcome=delivered}"] == 3000)
    assert page["mta_queue_messages"] == 0 and page["mta_delivery_units_in_memory"] == 0
    assert page["mta_queue_accept_duration_seconds_count"] == 3000 == page["mta_submission_messages_total"]
    assert page["mta_submission_accept_duration_seconds_count"] == 3000 == page["mta_queue_outcomes_total"]
    assert page["mta_queue_batch_jobs_sum"] >= 6000
    assert page["mta_queue_batch_jobs_count"] == page["mta_queue_commit_duration_seconds_count"]
    assert page["mta_queue_accept_duration_seconds_sum"] > page["mta_queue_sync_duration_seconds_sum"] / 3000
    assert slowest < 5


def test_clients_that_hold_on(start):
    """Hundreds of clients that say nothing, or half a request, or read nothing, keep neither scrapes nor mail away."""
    mta, address = start()
    host, port = address.split(":")
    held = []
    for number in range(300):
        held.append(socket.create_connection((host, int(port)), timeout=10))
        held[-1].sendall([b"", b"GET /metrics HTTP/1.1\r\nX: ", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"][number % 3])
    for _ in range(3):
        assert fetch(address, "/healthz")[0] == 200
        mta.submit("bert@dest.example")
    mta.wait_empty()
    assert wait_for(address, lambda page: page["mta_delivery_recipients_total{outcome=delivered}"] == 3)
    for sock in held:
        sock.close()
    for garbage in (b"\0" * 100000, b"GET " + b"/" * 100000, b"\x16\x03\x01\x00\xff" * 20, b"GET /metrics\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=0.5) as sock:
            try:
                sock.sendall(garbage)
                while sock.recv(65536):
                    pass
            except OSError:
                pass  # it had heard enough, or waits for the rest
    assert scrape(address)["mta_delivery_recipients_total{outcome=delivered}"] == 3


def test_health(start):
    """Well; then full: 503 with the reason while mail gets 452, and well again when there is room."""
    mta, address = start([{"stage": "mail", "reply": "450 4.0.0 later"}],
                         config={"queue": {"max_size": "1MiB"}, "retry": {"intervals": ["1h"]}})
    code, headers, text = fetch(address, "/healthz")
    assert code == 200 and headers["Content-Type"] == "application/json"
    assert json.loads(text) == {"status": "ok", "reasons": []}
    code, head, nothing = fetch(address, "/healthz", method="HEAD")
    assert code == 200 and nothing == "" and head["Content-Length"] == headers["Content-Length"]
    assert fetch(address, "/metrics", method="POST")[0] == 405 and fetch(address, "/")[0] == 404
    with mta.smtp() as session:
        session.ehlo()
        for _ in range(40):
            if fill(session) != 250:
                break
        else:
            raise AssertionError("never full")
    code, _, text = fetch(address, "/healthz")
    assert code == 503 and json.loads(text) == {"status": "failing", "reasons": ["the queue is full"]}
    assert scrape(address)["mta_queue_full"] == 1
    assert mta.ctl_run("delete", "--all").returncode == 0
    wait_for(address, lambda page: page["mta_queue_full"] == 0)
    assert fetch(address, "/healthz")[0] == 200


def fill(session):
    """Hand in 60 KiB. Returns the code."""
    code, text = session.mail("anna@sender.example")
    if code != 250:
        assert code == 452, (code, text)
        return code
    assert session.rcpt("bert@dest.example")[0] == 250
    try:
        return session.data("Subject: x\r\n\r\n" + ("y" * 70 + "\r\n") * 850)[0]
    finally:
        session.rset()


def test_the_address_is_taken(start):
    mta, address = start(wait=False)
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        code, text = mta.run_once()
    assert code == 1 and f"metrics.address: cannot listen on {address}: Address already in use" in text


def test_the_address_moves_with_a_reload(start):
    mta, old = start()
    new = f"[::1]:{free_port()}"
    mta.write_config({"metrics": {"address": new}})
    mta.signal(signal.SIGHUP)
    mta.wait_event("reload")
    assert fetch(new, "/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        fetch(old, "/healthz")
    taken = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", int(taken.split(":")[1]))):
        mta.write_config({"metrics": {"address": taken}})
        done = mta.ctl_run("reload")
    assert done.returncode == 1 and taken.encode() in done.stderr, done
    page = scrape(new)
    assert page["mta_config_last_reload_successful"] == 0
    mta.write_config({"metrics": None})
    assert mta.ctl_run("reload").returncode == 0
    for _ in range(100):
        try:
            fetch(new, "/healthz")
        except OSError:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("still served")


def test_shutting_down_is_told(start):
    """Between SIGTERM and the end, a watcher learns that no mail is taken here."""
    mta, address = start([{"stage": "dot", "delay": 3}])
    mta.submit("bert@dest.example")
    wait_for(address, lambda page: page["mta_delivery_units_active"] == 1)
    time.sleep(0.5)
    mta.signal(signal.SIGTERM)
    mta.wait_event("stop")
    code, _, text = fetch(address, "/healthz")
    assert code == 503 and json.loads(text)["reasons"] == ["shutting down"]
    assert mta.wait_exit(30) == 0
