"""A disk that fails on demand: switches of tests/crash/shim_faults.c, preloaded into one mtad."""

import mmap
import re
import struct
import subprocess

WRITE_ENOSPC, WRITE_EIO, WRITE_SHORT, SYNC_EIO, META_EIO, META_LATE, OTHER_ENOSPC, PAGES_EIO = (
    1 << n for n in range(8))
DEAD = WRITE_EIO | SYNC_EIO | META_EIO  # nothing can be written any more
BROKEN = META_LATE | PAGES_EIO  # a commit fails and what became of it cannot be found out


def _sanitizer(program):
    """The sanitizer's library of a program, which must come before other preloaded ones."""
    said = subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    found = re.search(r"(/\S*lib[at]san\S*) ", said)
    return [found.group(1)] if found else []


class DiskFaults:
    """Give `env` to the Mta, then attach(mta) before it starts. Only its queue's database is touched."""

    def __init__(self, folder):
        self.path = folder / "faults"
        self.path.write_bytes(bytes(mmap.PAGESIZE))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 16)

    def attach(self, mta):
        program = mta.program("mtad")
        shim = re.sub(r"mtad$", "shim_faults.so", program)
        mta.env["LD_PRELOAD"] = " ".join(_sanitizer(program) + [shim])
        mta.env["FAULT_CONTROL"] = str(self.path)
        mta.env["FAULT_TARGET"] = str(mta.state / "queue" / "data.mdb")

    def set(self, faults, every=1):
        """From now on these fail, one in `every`; 0: none."""
        self.map[4:8] = struct.pack("<I", every)
        self.map[0:4] = struct.pack("<I", faults)

    @property
    def hits(self):
        return struct.unpack("<I", self.map[8:12])[0]

    def close(self):
        self.map.close()
