"""A client outside the trusted networks asks to relay, again and again: it cannot fill the log."""

from rawclient import Raw


def test_relaying_denied(start_mta):
    mta = start_mta(listener={"trusted": ["192.0.2.0/24"]})
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\n" * 1000)
        for _ in range(5):
            client.expect(554, "5.7.1 Relaying denied")
            client.expect(503, "5.5.1")
        client.expect(421, "4.7.0")
        assert client.at_end()
    mta.stop()
    assert len(mta.events("reject")) == 11
