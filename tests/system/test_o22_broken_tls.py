"""Case O22: what is wrong with a server's TLS matters by policy: opportunistic takes any certificate and goes on in
clear where no handshake succeeds; encrypt and verify never do."""

import pytest

from vendors import make_certificate

OLD = {"tls_maximum": "TLSv1", "ciphers": "ALL:@SECLEVEL=0"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """By kind; all self-signed. "right" is valid for the name that the route has."""
    folder = tmp_path_factory.mktemp("certificates")
    return {"right": make_certificate(folder / "right", "localhost"),
            "wrong name": make_certificate(folder / "wrong", "other.example"),
            "expired": make_certificate(folder / "expired", "localhost", expired=True)}


@pytest.mark.parametrize("policy", ["opportunistic", "encrypt"])
@pytest.mark.parametrize("kind", ["right", "wrong name", "expired"])
def test_any_certificate_encrypts(start_mta, start_peer, start_dns, certificates, kind, policy):
    peer = start_peer(tls=certificates[kind])
    dns = start_dns({("localhost", "A"): ["127.0.0.1"]})
    mta = start_mta({"routes": [{"to": [f"localhost:{peer.port}"], "tls": policy}], "dns": {"servers": [dns.text]}})
    assert mta.wait_event("delivered", id=mta.submit("bert@dest.example"))["tls"].startswith("TLS1.3")
    assert len(peer.connections) == 1 and peer.messages[0].tls


@pytest.mark.parametrize("kind, trusted", [("right", True), ("right", False), ("wrong name", True), ("expired", True)])
def test_verify(start_mta, start_peer, start_dns, certificates, kind, trusted):
    peer = start_peer(tls=certificates[kind])
    dns = start_dns({("localhost", "A"): ["127.0.0.1"]})
    mta = start_mta({"routes": [{"to": [f"localhost:{peer.port}"], "tls": "verify"}], "dns": {"servers": [dns.text]},
                     "tls": {"ca": str(certificates[kind][0])} if trusted else {}, "retry": {"intervals": ["1s"]}})
    identity = mta.submit("bert@dest.example")
    if kind == "right" and trusted:
        mta.wait_event("delivered", id=identity)
        return
    deferred = mta.wait_event("deferred", id=identity, count=2)
    assert deferred["status"].startswith("4.7.") and deferred["reply"]
    assert not any(line[:4].upper() == b"MAIL" for connection in peer.connections for line in connection.commands())


@pytest.mark.parametrize("policy", ["opportunistic", "encrypt"])
def test_no_common_version(start_mta, start_peer, to_peer, certificates, policy):
    peer = start_peer(tls=certificates["right"], **OLD)
    mta = start_mta(to_peer(peer, tls=policy, retry={"intervals": ["1s"], "expire": "4s"}))
    identity = mta.submit("bert@dest.example", X_Test_Id="old")
    if policy == "opportunistic":
        assert not mta.wait_event("delivered", id=identity).get("tls")
        assert peer.messages[0].tls is None
        again = mta.submit("bert@dest.example")
        mta.wait_event("delivered", id=again)
        assert len([c for c in peer.connections if b"STARTTLS" in c.commands()]) == 1, "not remembered"
        return
    assert mta.wait_event("deferred", id=identity)["status"].startswith("4.7.")
    mta.wait_event("expired", id=identity, seconds=15)
    assert "old" not in peer.copies()


def test_starttls_refused(start_mta, start_peer, to_peer, certificates):
    """454 or 5xx to STARTTLS: opportunistic goes on in clear on the same or a new connection."""
    for reply in ("454 4.7.0 not now", "501 5.5.4 no", "550 5.7.0 no"):
        peer = start_peer(tls=certificates["right"], script=[{"stage": "starttls", "reply": reply}])
        mta = start_mta(to_peer(peer))
        assert not mta.wait_event("delivered", id=mta.submit("bert@dest.example")).get("tls")
        assert not mta.events("deferred")
