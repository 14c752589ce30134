"""Above max_connections a listener with TLS from the first byte closes at once, without a handshake."""

import pytest

from rawclient import Raw


def test_too_many_tls_connections(start_mta, certificate):
    mta = start_mta({"tls": {"certificate": str(certificate[0]), "key": str(certificate[1])}},
                    listener={"tls": "implicit", "max_connections": 2}, wait=False)
    mta.spawn()
    mta.wait_event("start")
    held = [Raw(mta, greet=False) for _ in range(2)]
    for session in held:
        session.handshake()
        session.expect(220)
    with Raw(mta, greet=False) as third:
        with pytest.raises(OSError):
            third.handshake()
    mta.wait_event("reject", text="too many connections")
    with held.pop() as session:
        session.command("QUIT", 221)
        assert session.at_end()
    with Raw(mta, greet=False) as fourth:
        fourth.handshake()
        fourth.expect(220)
    held.pop().close()
