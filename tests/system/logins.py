"""Users and certificates for clients that want in: a users file, an authority with clients' certificates."""

import base64
import hashlib
import hmac
import os
import pathlib
import subprocess
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt


def user_line(name, password, senders=None, cost="$y$j75$"):
    """One line of users_file. The cost is far below what mtactl takes: a test waits for nothing."""
    salt = os.urandom(16)
    letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    hashed = crypt.crypt(password, cost + "".join(letters[byte & 63] for byte in salt))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    scram = "SCRAM-SHA-256$4096:{}${}:{}".format(*(base64.b64encode(part).decode() for part in (salt, stored, server)))
    fields = [name, hashed, scram]
    if senders is not None:
        fields.append(" ".join(senders))
    return "\t".join(fields) + "\n"


def write_users(path, users):
    """users: {name: password or (password, [allowed senders])}. Replaced as a whole, as mtactl does it."""
    lines = [user_line(name, *(secret if isinstance(secret, tuple) else (secret,))) for name, secret in users.items()]
    fresh = pathlib.Path(f"{path}.new")
    fresh.write_text("".join(lines))
    fresh.chmod(0o640)
    fresh.rename(path)
    return path


def plain(name, password):
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()


class Authority:
    """Signs certificates; `certificate` is what one believes in it by."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.certificate = self.folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
                      "-out", "ca.pem", "-days", "30", "-subj", "/CN=ca", "-addext", "basicConstraints=critical,CA:TRUE")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def sign(self, name, usage="clientAuth,serverAuth"):
        """(certificate, key) of that DNS name."""
        (self.folder / "ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage={usage}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                      "-out", "csr", "-subj", "/")
        self._openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
                      "-extfile", "ext", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"
