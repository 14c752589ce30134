"""Reads a delivery status notification with Python's email package and checks its form (RFC 3464, 6522)."""

import email
import email.policy


class Dsn:
    """sender's view of a DSN: .fields of the message, .recipients {address: fields}, .original header fields."""

    def __init__(self, content, action="failed"):
        assert b"\n" not in content.replace(b"\r\n", b""), "bare LF in a DSN"
        assert max(len(line) for line in content.split(b"\r\n")) <= 998
        self.message = report = email.message_from_bytes(content, policy=email.policy.default)
        assert not report.defects, report.defects
        assert report.get_content_type() == "multipart/report"
        assert report["Content-Type"].params["report-type"] == "delivery-status"
        assert report["Auto-Submitted"] == "auto-replied"
        assert report["MIME-Version"] == "1.0"
        for name in ("From", "To", "Date", "Message-ID", "Subject"):
            assert report[name], name
        parts = list(report.iter_parts())
        assert [part.get_content_type() for part in parts][1] == "message/delivery-status"
        for part in report.walk():
            assert not part.defects, (part.get_content_type(), part.defects)
        assert len(parts) == 3 and parts[0].get_content_type() == "text/plain"
        assert parts[2].get_content_type() in ("text/rfc822-headers", "message/rfc822")
        self.text = parts[0].get_content()
        groups = parts[1].get_payload()
        self.fields = groups[0]
        assert self.fields["Reporting-MTA"].startswith("dns;")
        self.recipients = {}
        for group in groups[1:]:
            kind, address = group["Final-Recipient"].split(";", 1)
            assert kind.strip() == "rfc822"
            assert group["Action"] == action
            assert group["Status"].strip()[:2] in (("5.", "4.") if action == "failed" else ("4.",)), group["Status"]
            self.recipients[address.strip()] = group
        self.original = parts[2].get_payload() if isinstance(parts[2].get_payload(), str) else parts[2].as_string()
