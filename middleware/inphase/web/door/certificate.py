"""The certificate of a page on the network: its user's own, or one that is made here."""

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inphase.access import private_file
from inphase.errors import AccessError

_OWN = "page.pem"
_OWN_BYTES = 65_536
_DAYS = 820
_LEFT_DAYS = 30  # of one that is replaced at a start


class CertificateFiles(NamedTuple):
    """PEM files; both empty: one is made in the folder of keys."""

    chain: str
    """the certificate first, then those that lead to one that browsers know"""
    key: str
    """without a password"""


class Certificate:
    """A certificate and its key, for a server. Raises AccessError, with the remedy.

    folder: of keys, where one is made if no files are given. hosts: names and addresses for it.
    """

    def __init__(self, folder: Path, files: CertificateFiles, hosts: Sequence[str]) -> None:
        self._files = files
        if not files.chain:
            own = str(folder / _OWN)
            with private_file.locked(folder):
                if not _has_days_left(folder / _OWN):
                    private_file.replace(folder / _OWN, _made(hosts))
            self._files = CertificateFiles(own, own)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._state = self._look()
        self._load()

    def renew(self) -> None:
        """Use the files as they are now, for connections that come; the old ones stay where they do
        not fit."""
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            self._load()
        except AccessError as error:
            print(f"page: the certificate that was used goes on: {error}", flush=True)

    def _look(self) -> list[tuple[int, int]]:
        try:
            found = [Path(path).stat() for path in self._files]
        except OSError:
            return []
        return [(one.st_ino, one.st_mtime_ns) for one in found]

    def _load(self) -> None:
        chain, key = self._files
        try:
            for path in {chain, key}:
                Path(path).read_bytes()  # ssl does not say which one it is
            _load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, key)  # both or nothing
            _load_into(self.context, chain, key)
            found = x509.load_pem_x509_certificate(Path(chain).read_bytes())
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            what = (
                f"{error.filename}: {error.strerror}"
                if isinstance(error, OSError) and error.filename
                else f"{chain}, {key}: {error}"
            )
            raise AccessError(
                f"{what}; a page's certificate and key are PEM files that fit each other, the key "
                f"without a password"
            ) from error
        self.names = _names(found)
        """that it is for: host names, which may begin with *., and addresses"""
        digest = found.fingerprint(hashes.SHA256()).hex().upper()
        self.fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
        """SHA-256, as browsers show it"""


def _load_into(context: ssl.SSLContext, chain: str, key: str) -> None:
    context.load_cert_chain(chain, key, password=lambda: "")  # a question would wait for ever


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*(name.lower() for name in names), *map(str, addresses)]


def _has_days_left(path: Path) -> bool:
    """True for one that was made here and can be used for some time. Raises AccessError."""
    if not os.path.lexists(path):
        return False
    try:
        found = x509.load_pem_x509_certificate(private_file.read(path, _OWN_BYTES))
    except ValueError as error:
        raise AccessError(f"{path}: {error}; remove it: another one is made") from error
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=_LEFT_DAYS)


def _made(hosts: Sequence[str]) -> bytes:
    """A new key and a certificate that is signed by itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"inphase {_host()}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(one) for one in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return secret + certificate.public_bytes(serialization.Encoding.PEM)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _host() -> str:
    return socket.gethostname()
