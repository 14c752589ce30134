"""A little mail, steadily, beside whatever else goes on: how long each message takes to be accepted, and to arrive."""

import threading
import time

from mta import data, message, queued_id


class Trickle(threading.Thread):
    """One message every `interval` seconds to `recipient`; the Sink it arrives at must call arrived()."""

    def __init__(self, mta, recipient, interval=0.1):
        super().__init__(daemon=True)
        self.mta, self.recipient, self.interval = mta, recipient, interval
        self.sent, self.accepted, self.came = {}, {}, {}  # key -> monotonic time
        self.ids = {}
        self.ending = threading.Event()
        self.failure = None

    def arrived(self, event):
        if event["event"] == "message" and event["key"]:
            self.came.setdefault(event["key"], time.monotonic())

    def run(self):
        try:
            number = 0
            with self.mta.smtp() as session:
                session.ehlo()
                while not self.ending.wait(self.interval):
                    number += 1
                    self.one(session, f"trickle{number}")
        except Exception as failure:  # told by stop()
            self.failure = failure

    def one(self, session, key):
        assert session.mail("anna@sender.example")[0] == 250
        assert session.rcpt(self.recipient)[0] == 250
        self.sent[key] = time.monotonic()
        self.ids[key] = queued_id(*data(session, message(recipient=self.recipient, X_Test_Id=key)))
        self.accepted[key] = time.monotonic()

    def stop(self, seconds=30):
        """No more; wait for what is under way."""
        self.ending.set()
        self.join(seconds)
        end = time.monotonic() + seconds
        while len(self.came) < len(self.ids) and time.monotonic() < end:
            time.sleep(0.02)
        assert self.failure is None, self.failure
        assert not self.is_alive() and set(self.came) == set(self.ids), set(self.ids) - set(self.came)

    def times(self, which):
        return sorted(which[key] - self.sent[key] for key in which)

    def latest(self):
        """How long the slowest of the last hundred took to arrive, in ms."""
        keys = list(self.came)[-100:]
        return max((round((self.came[key] - self.sent[key]) * 1000) for key in keys), default=None)

    def summary(self):
        def words(times):
            return (f"p50 {times[len(times) // 2] * 1000:.0f} p99 {times[len(times) * 99 // 100] * 1000:.0f} "
                    f"max {times[-1] * 1000:.0f} ms")
        return f"{len(self.sent)} messages; accepted: {words(self.times(self.accepted))}; " \
               f"arrived: {words(self.times(self.came))}"
