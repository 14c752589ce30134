"""Case O32: between the final dot and its 250 the data is synced to the disk."""

import re

from rawclient import Raw
from mta import message


def test_sync_before_250(start_mta):
    mta = start_mta({"routes": [{"to": ["127.0.0.1:9"]}], "retry": {"intervals": ["1h"]}}, wait=False, build="release")
    trace = mta.folder / "trace"
    mta.wrapper = ["strace", "-D", "-f", "-qq", "-o", str(trace), "-s", "400", "-e",
                   "trace=fsync,fdatasync,msync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg"]
    mta.start()
    with Raw(mta) as client:
        client.envelope()
        client.send(message(X_Test_Id="sync") + b"the last line\r\n.\r\n")
        client.expect(250, "queued as")
    mta.stop()
    lines = trace.read_text(errors="replace").splitlines()
    dot = next(n for n, line in enumerate(lines) if "the last line" in line and re.search(r"read|recv", line))
    answer = next(n for n, line in enumerate(lines) if n > dot and re.search(r"(write|send).*250 2\.0\.0", line))
    synced = [line for line in lines[dot:answer] if re.search(r"(fdatasync|fsync|msync)\b.*= 0", line)]
    assert synced, "\n".join(lines[dot:answer + 1])
