"""Some hundred clients that sit there cost others nothing; above max_connections: 421 and the end, until one leaves."""

from rawclient import Raw

PLACES = 300


def test_too_many_connections(start_mta, start_peer, to_peer, closing):
    peer = start_peer()
    mta = start_mta(to_peer(peer), listener={"max_connections": PLACES})
    idle = [closing(Raw(mta)) for _ in range(PLACES - 1)]
    for client in idle:
        client.command("EHLO client.sender.example", 250)
    mta.wait_event("delivered", id=mta.submit("bert@dest.example"))
    idle.append(closing(Raw(mta)))
    for _ in range(2):
        with Raw(mta, greet=False) as client:
            client.expect(421, "4.3.2 Too many connections")
            assert client.at_end()
    mta.wait_event("reject", code=421, status="4.3.2", count=2)
    for client in idle:
        client.command("NOOP", 250)
    idle[0].close()
    mta.wait_for_sessions(PLACES - 1)
    Raw(mta).close()
