"""What a scripted peer has seen: connections, commands, messages; fed by events, asked from any thread."""

import base64
import threading


class Connection:
    """One connection as the peer saw it. Times are of time.monotonic()."""

    def __init__(self, event):
        self.number = event["connection"]
        self.address = event["address"]
        self.opened = event["time"]
        self.closed = None
        self.end = None        # "client closed", "reset by client", "closed", "reset", "stopped", "TLS: ..."
        self.lines = []        # (time, bytes without CRLF) of each command
        self.reads = []        # (time, bytes) as recv gave them, outside of content: shows what came in one write
        self.replies = []      # (time, stage, bytes)
        self.tls = None        # "TLSv1.3"
        self.cipher = None
        self.server_name = None
        self.messages = []

    def commands(self):
        return [line for _, line in self.lines]


class Message:
    """One message whose final dot was read."""

    def __init__(self, event):
        self.connection = event["connection"]
        self.transaction = event["transaction"]
        self.sender = event["sender"]
        self.parameters = event["parameters"]  # of MAIL: "SIZE=10 BODY=8BITMIME"
        self.recipients = event["recipients"]  # the accepted ones, in order
        self.refused = event["refused"]
        self.raw = base64.b64decode(event["raw"])          # as on the wire, dots doubled, without the final ".CRLF"
        self.content = base64.b64decode(event["content"])  # dots undone
        self.tls = event["tls"]
        self.reply = event["reply"]                        # what will be sent; None: nothing
        self.accepted = event["accepted"]
        self.mail_time = event["mail_time"]
        self.data_time = event["data_time"]
        self.dot_time = event["dot_time"]

    def header(self, name):
        """The first field of that name, unfolded, or None."""
        head = self.content.split(b"\r\n\r\n", 1)[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
        prefix = name.lower().encode() + b":"
        for line in head.split(b"\r\n"):
            if line.lower().startswith(prefix):
                return line[len(prefix):].strip().decode("latin-1")
        return None


class Record:
    """All that was seen, fed by events. Every method may be called from any thread."""

    def __init__(self):
        self.changed = threading.Condition()
        self.connections = []
        self.messages = []
        self.listening = None  # (address, port)

    def apply(self, event):
        with self.changed:
            self._apply(event)
            self.changed.notify_all()

    def _apply(self, event):
        kind = event["event"]
        if kind == "listening":
            self.listening = (event["address"], event["port"])
        elif kind == "connect":
            self.connections.append(Connection(event))
        if kind in ("listening", "connect"):
            return
        connection = self.connections[event["connection"] - 1]
        if kind == "line":
            connection.lines.append((event["time"], event["text"].encode("latin-1")))
        elif kind == "read":
            connection.reads.append((event["time"], event["text"].encode("latin-1")))
        elif kind == "reply":
            connection.replies.append((event["time"], event["stage"], event["text"].encode("latin-1")))
        elif kind == "tls":
            connection.tls, connection.cipher = event["version"], event["cipher"]
            connection.server_name = event["server_name"]
        elif kind == "message":
            message = Message(event)
            self.messages.append(message)
            connection.messages.append(message)
        elif kind == "end":
            connection.closed, connection.end = event["time"], event["how"]

    def wait_for(self, predicate, timeout=10):
        """Wait until predicate(record) is true. Returns its value; AssertionError with what was seen after timeout."""
        with self.changed:
            if self.changed.wait_for(lambda: predicate(self), timeout):
                return predicate(self)
            raise AssertionError(f"not within {timeout} s; seen:\n{self.describe()}")

    def accepted(self, recipient=None):
        """Messages taken (2xx to the dot was decided), for one recipient or all."""
        with self.changed:
            return [m for m in self.messages if m.accepted
                    and (recipient is None or recipient.lower() in [r.lower() for r in m.recipients])]

    def copies(self, header="X-Test-Id"):
        """{value of that header: {recipient: copies taken}}"""
        counts = {}
        for message in self.accepted():
            per_recipient = counts.setdefault(message.header(header), {})
            for recipient in message.recipients:
                per_recipient[recipient] = per_recipient.get(recipient, 0) + 1
        return counts

    def describe(self):
        with self.changed:
            out = []
            for c in self.connections:
                talk = [(t, "C", line) for t, line in c.lines] + [(t, "S", text) for t, _, text in c.replies]
                out.append(f"connection {c.number} from {c.address}, TLS {c.tls}, end: {c.end}")
                out += [f"  {t - c.opened:8.3f} {who}: {line!r}" for t, who, line in sorted(talk, key=lambda x: x[0])]
            out.append(f"{len(self.messages)} messages, {sum(m.accepted for m in self.messages)} accepted")
            return "\n".join(out)
