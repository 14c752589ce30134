"""A scripted DNS server on UDP and TCP: records from a table, faults by name and type.

    with Dns({("dest.example", "MX"): ["10 mx1.dest.example."], ("mx1.dest.example", "A"): ["127.0.0.2"]}) as dns: ...
A name that no row knows answers NXDOMAIN, a known name without the type an empty answer. Instead of a list a
row may hold a fault: "SERVFAIL", "REFUSED", "FORMERR", "NXDOMAIN" (the codes), "silence", "tcp-refused" (truncated
over UDP, the TCP connection closed), "late" (answers after 60 s: never within a test).
"""

import collections
import ipaddress
import socketserver
import struct
import threading

import dnslib
from dnslib import QTYPE, RCODE

CODES = ("SERVFAIL", "REFUSED", "FORMERR", "NXDOMAIN")


class Dns:
    def __init__(self, records=None, address="127.0.0.1", port=0):
        self._lock = threading.Lock()
        self.queries = []  # (name, type) in order
        self.set(records or {})
        self._udp, self._tcp = _listen(self, address, port)
        self.address, self.port = self._udp.server_address[:2]
        self.text = f"{self.address}:{self.port}"
        for server in (self._udp, self._tcp):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05},
                             daemon=True).start()

    def set(self, records):
        table = collections.defaultdict(dict)
        for (name, kind), row in records.items():
            table[name.lower().rstrip(".")][kind] = row
        with self._lock:
            self.table = table

    def count(self, name, kind):
        with self._lock:
            return self.queries.count((name, kind))

    def _answer(self, data, tcp):
        """Bytes to send, or None: nothing. Over TCP None closes the connection."""
        try:
            request = dnslib.DNSRecord.parse(data)
        except dnslib.DNSError:
            return None
        name = str(request.q.qname).lower().rstrip(".")
        kind = QTYPE[request.q.qtype]
        with self._lock:
            self.queries.append((name, kind))
            known = name in self.table
            row = self.table.get(name, {}).get(kind, [])
        reply = request.reply()
        reply.header.ra = 1
        if row in ("silence", "late"):
            return None
        if row == "tcp-refused":
            if tcp:
                return None
            reply.header.tc = 1
        elif row in CODES:
            reply.header.rcode = getattr(RCODE, row)
        elif not known:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            for rdata in row:
                reply.add_answer(_record(request.q.qname, kind, rdata))
        packed = reply.pack()
        if not tcp and len(packed) > 1232:
            cut = request.reply()
            cut.header.tc = 1
            packed = cut.pack()
        return packed

    def stop(self):
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


def _record(name, kind, rdata):
    if kind == "AAAA":  # dnslib knows no IPv4-mapped text
        data = dnslib.AAAA(tuple(ipaddress.IPv6Address(rdata).packed))
        return dnslib.RR(name, QTYPE.AAAA, ttl=60, rdata=data)
    return dnslib.RR.fromZone(f"{name} 60 IN {kind} {rdata}")[0]


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    allow_reuse_address = False


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _listen(dns, address, port):
    """One port, free for both UDP and TCP."""
    class UdpHandler(socketserver.BaseRequestHandler):
        def handle(self):
            answer = dns._answer(self.request[0], tcp=False)
            if answer is not None:
                self.request[1].sendto(answer, self.client_address)

    class TcpHandler(socketserver.StreamRequestHandler):
        def handle(self):
            while True:
                head = self.rfile.read(2)
                if len(head) < 2:
                    return
                answer = dns._answer(self.rfile.read(struct.unpack("!H", head)[0]), tcp=True)
                if answer is None:
                    return
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

    for _ in range(50):
        udp = _Udp((address, port), UdpHandler)
        try:
            return udp, _Tcp((address, udp.server_address[1]), TcpHandler)
        except OSError:
            udp.server_close()
            if port:
                raise
    raise RuntimeError("no free port for DNS")
