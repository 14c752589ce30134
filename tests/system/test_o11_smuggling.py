"""Case O11: only CRLF.CRLF ends the data; a second transaction cannot hide in a message."""

import itertools

import pytest

from rawclient import Raw

FORGED = b"MAIL FROM:<forged@a.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\nX\r\n.\r\n"
ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\x00.\r\n", b"\r\r\n.\r\r\n"]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "one by one"])
def test_forged_transaction(start_mta, start_peer, to_peer, one_by_one):
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    accepted = 0
    for end in ENDS:
        with Raw(mta) as client:
            client.envelope()
            client.send(b"From: <anna@sender.example>\r\nSubject: x\r\n\r\nbody" + end + FORGED, one_by_one)
            code, text = client.reply()
            client.command("NOOP", 250)  # exactly one reply to all of it
            client.command("QUIT", 221)
        bare = b"\r" in end.replace(b"\r\n", b"") or b"\n" in end.replace(b"\r\n", b"")
        if bare:
            assert code in (550, 554) and text.startswith("5."), (end, code, text)
        accepted += code == 250
    mta.wait_empty()
    assert len(peer.messages) == accepted
    assert all(message.sender != "forged@a.example" for message in peer.messages)
    for message in peer.messages:
        rest = message.raw.replace(b"\r\n", b"")
        assert b"\r" not in rest and b"\n" not in rest


MIXED = [  # case O06
    b"Subject: x\nBcc: <evil@dest.example>\r\n\r\nbody\r\n",
    b"Subject: x\r\n\nbody\r\n",
    b"Subject: x\r\n\r\none\r\ntwo\nthree\r\nfour\nfive\r\n",
    b"Subject: x\n\nall by LF\n\r\n",
]


def test_mixed_line_ends(start_mta, start_peer, to_peer):
    """Case O06: what is not CRLF throughout is refused as it came, in the header, at its end and in the body; nobody ever
    signs bytes that another program would change."""
    peer = start_peer()
    mta = start_mta(to_peer(peer))
    with Raw(mta) as client:
        client.command("EHLO client.sender.example", 250)
        for content in MIXED:
            for way in (b"DATA\r\n" + content + b".\r\n", b"BDAT %d LAST\r\n%s" % (len(content), content)):
                client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\n" + way + b"NOOP\r\n")
                codes = [code for code, _ in (client.reply() for _ in range(5 if way.startswith(b"DATA") else 4))]
                assert [code for code in codes if code != 354] == [250, 250, 554, 250], (way, codes)
    assert mta.queued() == 0 and not peer.connections


# ---- the matrix: every mix of CR, LF and dot ----

HEAD = b"Subject: x\r\n\r\nbody"
TAIL = b"MAIL FROM:<forged@a.example>\r\nRCPT TO:<b@c.example>\r\nBDAT 0 LAST\r\n"
MIXES = [b"".join(mix) for length in range(1, 6) for mix in itertools.product([b"\r", b"\n", b"."], repeat=length)]


def is_bare(content):
    rest = content.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def read_literally(sent):
    """RFC 5321 section 4.1.1.4: (content, what is behind it)."""
    content, behind = (b"\r\n" + sent).split(b"\r\n.\r\n", 1)
    return content[2:] + b"\r\n", behind


def test_matrix_of_data(start_mta):
    """The data ends at the first CRLF.CRLF and nowhere else. Where a mix holds one, the client has ended its message
    itself: what follows are its commands, all of them."""
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]}})
    accepted = ended = 0
    for at in range(0, len(MIXES), 40):
        with Raw(mta) as client:
            client.command("EHLO client.sender.example", 250)
            for mix in MIXES[at:at + 40]:
                sent = HEAD + mix + TAIL + b".\r\n"
                content, behind = read_literally(sent)
                client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\nDATA\r\n" + sent)
                got = [client.reply()[0] for _ in range(4)]
                assert got == [250, 250, 354, 554 if is_bare(content) else 250], (mix, got)
                accepted += got[3] == 250
                if behind:
                    # Bytes of the mix stand in front of its first command, which is none then.
                    ended += 1
                    first = 250 if behind.startswith(b"MAIL") else 500
                    rest = [client.reply()[0] for _ in range(4)]
                    assert rest == [first] + ([250, 250, 500] if first == 250 else [503, 503, 500]), (mix, rest)
                    accepted += first == 250
                client.command("NOOP", 250)
            client.command("QUIT", 221)
    assert ended == 1  # and in all others the forged transaction stayed text
    units = mta.ctl("list")
    assert len({unit["id"] for unit in units}) == accepted
    assert sum(unit["sender"] == "forged@a.example" for unit in units) == 1  # the one that ends exactly there


def test_matrix_of_bdat(start_mta):
    """In a chunk nothing ends the data but its size."""
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]}})
    accepted = 0
    for at in range(0, len(MIXES), 100):
        with Raw(mta) as client:
            client.command("EHLO client.sender.example", 250)
            for mix in MIXES[at:at + 100]:
                chunk = HEAD + mix + TAIL
                client.send(b"MAIL FROM:<anna@sender.example>\r\nRCPT TO:<bert@dest.example>\r\nBDAT %d LAST\r\n%sNOOP\r\n"
                            % (len(chunk), chunk))
                got = [client.reply()[0] for _ in range(4)]
                assert got == [250, 250, 554 if is_bare(chunk) else 250, 250], (mix, got)
                accepted += got[2] == 250
    units = mta.ctl("list")
    assert len({unit["id"] for unit in units}) == accepted == 19
    assert all(unit["sender"] == "anna@sender.example" for unit in units)
