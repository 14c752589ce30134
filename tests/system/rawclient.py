"""A client that decides about every byte and segment it sends."""

import socket
import ssl

CONTEXT = ssl._create_unverified_context()


class Door:
    """A listener of an Mta other than its first: what Raw connects to. `to`: (address, port), or the path of a socket."""

    def __init__(self, to, source=None):
        self.to, self.source = to, source

    def connect(self, timeout=20):
        path = isinstance(self.to, str)
        sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET6 if ":" in self.to[0] else socket.AF_INET)
        sock.settimeout(timeout)
        try:
            if self.source:
                sock.bind((self.source, 0))
            sock.connect(self.to)
        except OSError:
            sock.close()
            raise
        return sock


class Raw:
    def __init__(self, mta, timeout=20, greet=True):
        self.sock = mta.connect(timeout)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.tls = None
        if greet:
            self.expect(220)

    def send(self, data, one_by_one=False):
        """All in one segment, or one byte a segment."""
        if one_by_one:
            for byte in data:
                self.sock.sendall(bytes([byte]))
        else:
            self.sock.sendall(data)

    def line(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), line
        return line[:-1].decode("ascii")

    def reply(self):
        """(code, "text of all lines")"""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        assert len({line[:3] for line in lines}) == 1, lines
        return int(lines[0][:3]), "\n".join(line[4:] for line in lines)

    def expect(self, code, text=""):
        got = self.reply()
        assert got[0] == code and text in got[1], (got, code, text)
        return got[1]

    def command(self, line, code=None, text=""):
        self.send(line.encode() + b"\r\n")
        return self.expect(code, text) if code is not None else self.reply()

    def envelope(self, recipients=("bert@dest.example",), sender="anna@sender.example"):
        """Up to 354."""
        self.command("EHLO client.sender.example", 250)
        self.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)
        self.command("DATA", 354)

    def starttls(self, context=CONTEXT):
        self.command("STARTTLS", 220)
        self.handshake(context)

    def handshake(self, context=CONTEXT):
        self.sock = context.wrap_socket(self.sock)

    def at_end(self, seconds=20):
        """Does the server close? What it still says is thrown away."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
            return True
        except socket.timeout:
            return False
        except OSError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
