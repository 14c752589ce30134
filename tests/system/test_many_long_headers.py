"""Clients that stop within long header sections, more than the budget for content together: nobody waits for another.
What exceeds the bound for header sections is refused, and afterwards there is room again."""

import pytest

from mta import message
from rawclient import Raw

HEADER = b"".join(b"X-Field-%04d: %s\r\n" % (number, b"x" * 980) for number in range(250))


@pytest.mark.parametrize("clients, most_refused", [(110, 0), (320, 90)])
def test_many_long_headers(start_mta, closing, clients, most_refused):
    mta = start_mta({"retry": {"intervals": ["1h"]}}, listener={"max_connections": 2000})
    sessions = [closing(Raw(mta)) for _ in range(clients)]
    for session in sessions:
        session.envelope()
        session.send(HEADER)
    accepted = refused = 0
    for session in sessions:
        session.send(message() + b".\r\n")
        code, text = session.reply()
        assert code == 250 or (code == 452 and text.startswith("4.3.1 ")), (code, text)
        accepted += code == 250
        refused += code == 452
    assert (refused > 0) == (most_refused > 0) and refused <= most_refused, (accepted, refused)
    assert mta.queued() == accepted
    mta.submit("bert@dest.example")
