"""The Internet that tests with real servers share: DNS (nsd behind unbound), two receivers (Postfix), and the machine
that mtad and its clients run on.

  192.0.2.53  nsd       dest.example    MX mx1 (Postfix, both families)     anna, bert have mailboxes
  192.0.2.54  unbound   sender.example  MX mx2 (Postfix)                    anna has a mailbox; DKIM key s1
  192.0.2.1, 2001:db8::1  the machine `mta`; 198.51.100.25, .26 and 2001:db8:1::25 the receivers
"""

import base64
import pathlib
import subprocess

import net
import vendors

MTA4, MTA6 = "192.0.2.1", "2001:db8::1"
MX1 = ["198.51.100.25", "2001:db8:1::25"]
MX2 = ["198.51.100.26"]


def make_dkim_key(path):
    """An RSA key; returns the TXT record that publishes it."""
    subprocess.run(["openssl", "genrsa", "-out", str(path), "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", str(path), "-pubout", "-outform", "DER"], check=True,
                            capture_output=True).stdout
    return "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()


def zones(record):
    parts = " ".join(f'"{record[at:at + 200]}"' for at in range(0, len(record), 200))
    return {
        "dest.example": f"@ MX 10 mx1\nmx1 A {MX1[0]}\nmx1 AAAA {MX1[1]}\n",
        "sender.example": f"@ MX 10 mx2\nmx2 A {MX2[0]}\ns1._domainkey TXT {parts}\nmta A {MTA4}\nmta AAAA {MTA6}\n",
        # Receivers in special places, each at mx1 in the end.
        "six.example": f"@ MX 10 mx\nmx AAAA {MX1[1]}\n",
        "blackhole.example": f"@ MX 10 mx\nmx AAAA 2001:db8:dead::1\nmx A {MX1[0]}\n",
        "ourselves.example": f"@ MX 10 mx\nmx A {MTA4}\n",
        "address.example": f"@ A {MX1[0]}\n",
        "null.example": "@ MX 0 .\n",
    }


class World:
    def __init__(self, folder):
        self.folder = folder = pathlib.Path(folder)
        self.key = folder / "dkim.pem"
        self.record = make_dkim_key(self.key)
        self.keys = {"s1._domainkey.sender.example": self.record}
        self.net = net.Internet()
        try:
            self._start(folder)
        except BaseException:
            self.net.close()
            raise

    def _start(self, folder):
        names = self.net.host("dns", "192.0.2.53", "192.0.2.54", contained=True)
        self.mta = self.net.host("mta", MTA4, MTA6)
        self.mx1 = self.net.host("mx1", *MX1, contained=True)
        self.mx2 = self.net.host("mx2", *MX2, contained=True)
        data = zones(self.record)
        vendors.Nsd(names, "192.0.2.53", data, folder / "nsd")
        vendors.Unbound(names, "192.0.2.54", data, "192.0.2.53", folder / "unbound")
        self.dest = vendors.Postfix(self.mx1, MX1, "mx1.dest.example", "dest.example", ["anna", "bert"],
                                    folder / "mx1", also=["six.example", "blackhole.example", "address.example"])
        self.sender = vendors.Postfix(self.mx2, MX2, "mx2.sender.example", "sender.example", ["anna"], folder / "mx2")
        resolv = folder / "resolv.conf"
        resolv.write_text("nameserver 192.0.2.54\n")
        self.mta.bind(resolv, "/etc/resolv.conf")

    def config(self, **more):
        """mtad by MX, the machine's resolver, DKIM: as it would run on the real Internet."""
        return {"dns": None, "dkim": [{"domain": "sender.example", "selector": "s1", "key": str(self.key)}], **more}

    def close(self):
        self.net.close()
