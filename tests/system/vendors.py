"""Servers and tools of other vendors, run from where fetch_peers.sh unpacked them.

Each server gets a folder of its own and a Host (net.py) made with contained=True: it ends with the host.
"""

import os
import pathlib
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "/var/tmp") / "mta-test-peers"
ROOT = pathlib.Path(os.environ.get("MTA_TEST_PEERS") or DEFAULT) / "root"
LIBRARIES = f"{ROOT}/usr/lib/postfix:{ROOT}/usr/lib:{ROOT}/usr/lib/{os.uname().machine}-linux-gnu"


def environment():
    return dict(os.environ, LD_LIBRARY_PATH=LIBRARIES)


def program(path):
    """The full path of an unpacked program, e.g. "usr/sbin/nsd"."""
    found = ROOT / path
    if not found.exists():
        raise RuntimeError(f"{found} is missing: run sh {HERE}/fetch_peers.sh")
    return str(found)


def wait_listening(host, address, port, seconds=15):
    import socket
    end = time.monotonic() + seconds
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        with host.entered():
            probe = socket.socket(family, socket.SOCK_STREAM)
        probe.settimeout(1)
        try:
            probe.connect((address, port))
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        finally:
            probe.close()


def _start(host, command, log, **options):
    with open(log, "ab") as file:
        return subprocess.Popen(host.wrap(command), stdin=subprocess.DEVNULL, stdout=file,
                                stderr=file, env=environment(), **options)


class Nsd:
    """Serves zones, {"dest.example": "text of the zone file"}, authoritatively."""

    def __init__(self, host, address, zones, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True)
        lines = ["server:", f"  ip-address: {address}", '  username: ""', '  chroot: ""',
                 f'  zonesdir: "{folder}"', f'  pidfile: "{folder}/pid"', '  database: ""',
                 f'  xfrdfile: "{folder}/xfrd"', f'  zonelistfile: "{folder}/list"',
                 f'  cookie-secret-file: "{folder}/cookie"', "  server-count: 1",
                 "remote-control:", "  control-enable: no"]
        for name, text in zones.items():
            head = (f"$ORIGIN {name}.\n$TTL 60\n"
                    f"@ SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 60\n@ NS ns.{name}.\n"
                    f"ns {'AAAA' if ':' in address else 'A'} {address}\n")
            (folder / (name + ".zone")).write_text(head + text)
            lines += ["zone:", f'  name: "{name}"', f'  zonefile: "{name}.zone"']
        (folder / "conf").write_text("\n".join(lines) + "\n")
        self.process = _start(host, [program("usr/sbin/nsd"), "-d", "-c", str(folder / "conf")],
                              folder / "log")
        wait_listening(host, address, 53)


class Unbound:
    """A resolver that finds the given zones at `authority` and knows no other name."""

    def __init__(self, host, address, zones, authority, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True)
        lines = ["server:", f"  interface: {address}", '  username: ""', '  chroot: ""',
                 f'  directory: "{folder}"', '  pidfile: ""', "  access-control: 0.0.0.0/0 allow",
                 "  access-control: ::0/0 allow", "  use-syslog: no", '  logfile: ""',
                 '  module-config: "iterator"', "  do-not-query-localhost: no",
                 '  local-zone: "." static']
        for zone in zones:
            lines.append(f'  local-zone: "{zone}." transparent')
        lines += ["remote-control:", "  control-enable: no"]
        for zone in zones:
            lines += ["stub-zone:", f'  name: "{zone}"', f"  stub-addr: {authority}"]
        (folder / "conf").write_text("\n".join(lines) + "\n")
        self.process = _start(host, [program("usr/sbin/unbound"), "-d", "-c", str(folder / "conf")],
                              folder / "log")
        wait_listening(host, address, 53)


MASTER_CF = """\
smtp      inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


def make_certificate(folder, name, expired=False):
    """A self-signed certificate; returns the paths of certificate and key."""
    env = dict(os.environ)
    if expired:  # made a year ago
        library = f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1"
        env.update(LD_PRELOAD=library, FAKETIME="-365d")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out", str(cert),
                    "-days", "30", "-subj", "/CN=" + name, "-addext",
                    "subjectAltName=DNS:" + name], check=True, capture_output=True, env=env)
    return cert, key


class Postfix:
    """Receives on port 25 with STARTTLS for `domain` (and `also`) and puts the mail of `users` into mailboxes.

    Strict about bare newlines, so that it also judges our wire format. Anybody else is an unknown user.
    `more`: further lines of main.cf.
    """

    def __init__(self, host, addresses, hostname, domain, users, folder, also=(), more=""):
        self.folder = folder = pathlib.Path(folder)
        self.host = host
        self._make_accounts()
        self._make_folders()
        cert, key = make_certificate(folder / "tls", hostname)
        (folder / "etc/master.cf").write_text(MASTER_CF)
        (folder / "etc/dynamicmaps.cf").write_text("")
        domains = [domain, *also]
        (folder / "etc/boxes").write_text("".join(f"{u}@{d} {u}/\n" for u in users for d in domains))
        (folder / "etc/main.cf").write_text(f"""\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
daemon_directory = {ROOT}/usr/lib/postfix/sbin
command_directory = {ROOT}/usr/sbin
shlib_directory = {ROOT}/usr/lib/postfix
import_environment = MAIL_CONFIG, MAIL_LOGTAG, POSTLOG_SERVICE, POSTLOG_HOSTNAME, TZ, LANG=C, LD_LIBRARY_PATH={LIBRARIES}
export_environment = TZ, LD_LIBRARY_PATH
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
myhostname = {hostname}
mydestination =
mynetworks =
inet_interfaces = {", ".join(addresses)}
inet_protocols = all
alias_maps =
alias_database =
virtual_mailbox_domains = {", ".join(domains)}
virtual_mailbox_maps = texthash:{folder}/etc/boxes
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 104857600
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
smtpd_forbid_bare_newline = yes
smtpd_forbid_bare_newline_exclusions =
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
maillog_file_prefixes = {folder}
maillog_file = {folder}/log/mail.log
{more}""")
        master = f"{ROOT}/usr/lib/postfix/sbin/master"
        self.process = _start(host, [master, "-c", f"{folder}/etc", "-d"], folder / "log/start")
        try:
            for address in addresses:
                wait_listening(host, address, 25)
        except OSError as error:
            raise RuntimeError("postfix does not listen: " + self.log()) from error

    def _make_accounts(self):
        """Accounts postfix and postdrop exist in this host's own view of /etc only."""
        for name, lines in (("passwd", "postfix:x:64901:64901::/:/usr/sbin/nologin\n"),
                            ("group", "postfix:x:64901:\npostdrop:x:64902:\n")):
            kept = [line for line in pathlib.Path("/etc", name).read_text().splitlines(True)
                    if not line.startswith(("postfix:", "postdrop:"))]
            copy = self.folder / name
            self.folder.mkdir(parents=True, exist_ok=True)
            copy.write_text("".join(kept) + lines)
            self.host.bind(copy, "/etc/" + name)

    def _make_folders(self):
        for name in ("etc", "data", "log", "spool", "mail"):
            (self.folder / name).mkdir(mode=0o755)
        os.chown(self.folder / "data", 64901, 64901)
        os.chown(self.folder / "mail", 65534, 65534)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
                     "private", "saved", "trace"):
            (self.folder / "spool" / name).mkdir(mode=0o700)
            os.chown(self.folder / "spool" / name, 64901, 64901)
        (self.folder / "spool/pid").mkdir(mode=0o755)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (self.folder / "spool" / name).mkdir()
            os.chown(self.folder / "spool" / name, 64901, 64902)
            os.chmod(self.folder / "spool" / name, mode)
        path = self.folder  # postfix's own account must be able to walk down to its folders
        while path != path.parent and path != pathlib.Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o111)
            path = path.parent

    def log(self):
        return "".join(p.read_text(errors="replace") for p in sorted((self.folder / "log").iterdir()))

    def mailbox(self, user):
        """The messages a user has, as bytes with CRLF, oldest first."""
        box = self.folder / "mail" / user / "new"
        if not box.exists():
            return []
        paths = sorted(box.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in paths]

    def wait_mail(self, user, count=1, seconds=20):
        end = time.monotonic() + seconds
        while True:
            mail = self.mailbox(user)
            if len(mail) >= count:
                return mail
            if time.monotonic() > end:
                raise AssertionError(f"{len(mail)} of {count} messages for {user}; {self.log()}")
            time.sleep(0.05)


EXIM_CONF = """\
primary_hostname = {hostname}
exim_path = {root}/usr/sbin/exim4
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
never_users =
deliver_drop_privilege = true
keep_environment =
{main}
begin routers
all:
  driver = manualroute
  route_list = * {server}
  transport = out
  self = send
begin transports
out:
  driver = smtp
{transport}
begin authenticators
{authenticators}
"""


class Exim:
    """Exim as a client: hand_in() sends one message to `server` at once, as its configuration says. On a contained Host."""

    def __init__(self, host, hostname, folder, server, transport, authenticators, main=""):
        self.folder = folder = pathlib.Path(folder)
        self.host = host
        for name in ("spool", "log"):
            (folder / name).mkdir(parents=True)
            os.chown(folder / name, 64903, 64903)
        for name, line in (("passwd", "Debian-exim:x:64903:64903::/:/usr/sbin/nologin\n"), ("group", "Debian-exim:x:64903:\n")):
            (folder / name).write_text(pathlib.Path("/etc", name).read_text() + line)
            host.bind(folder / name, "/etc/" + name)
        path = folder
        while path != path.parent and path != pathlib.Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o111)
            path = path.parent
        (folder / "conf").write_text(EXIM_CONF.format(
            hostname=hostname, root=ROOT, folder=folder, server=server, main=main, transport=transport,
            authenticators=authenticators))

    def hand_in(self, sender, recipient, content):
        self.host.run(program("usr/sbin/exim4"), "-C", str(self.folder / "conf"), "-odf", "-oi", "-f", sender, recipient,
                      input=content, env=environment(), capture_output=True)

    def log(self):
        return "".join(p.read_text(errors="replace") for p in sorted((self.folder / "log").iterdir()))


def opendkim_verdict(message, keys, folder):
    """OpenDKIM's word on a message; keys: {"s1._domainkey.dom": "v=DKIM1; p=..."}. True: verified."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys").write_text("".join(f"{name} {record}\n" for name, record in keys.items()))
    (folder / "conf").write_text(f"Mode v\nTestPublicKeys {folder}/keys\nSyslog no\n")
    (folder / "message").write_bytes(message)
    done = subprocess.run([str(ROOT.parent / "bin/opendkim"), "-x", str(folder / "conf"), "-t",
                           str(folder / "message")], capture_output=True, timeout=30)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if "verification (s=" in text and "succeeded" in text:
        return True
    if "failed" in text or "no signature" in text:
        return False
    raise RuntimeError("opendkim says neither: " + text)


def dkimpy_verdict(message, keys):
    """dkimpy's word on a message."""
    import dkim
    table = {name.encode() + b".": record.encode() for name, record in keys.items()}
    return dkim.verify(message, dnsfunc=lambda name, timeout=5: table.get(name))
