"""A private certificate authority, and the certificates that tests need of it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """A private CA, its bundle on disk, and servers that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA(organization_name="Test Authority")
        self.bundle = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)
        self.names: list[str | None] = []

    def context(self, *names: str, days: int = 100) -> ssl.SSLContext:
        """A server's, whose certificate is for ``names`` and ends in so many days."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        now = datetime.now(UTC)
        mine = self.ca.issue_cert(
            *(names or ("localhost",)),
            not_before=now - timedelta(days=365),
            not_after=now + timedelta(days=days, hours=1),
        )
        mine.configure_cert(context)
        context.sni_callback = lambda _, name, __: self.names.append(name)
        return context

    def mutual(self, *, older: bool = False) -> ssl.SSLContext:
        """A server's that asks for a client certificate of this authority; ``older`` is TLS 1.2."""
        context = self.context()
        context.verify_mode = ssl.CERT_REQUIRED
        self.ca.configure_trust(context)
        if older:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def client(self, name: str = "client") -> dict[str, str]:
        """A client certificate and its key on disk, as the settings of an upstream."""
        mine = self.ca.issue_cert(f"{name}@example.org")
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        mine.cert_chain_pems[0].write_to_path(cert)
        mine.private_key_pem.write_to_path(key)
        return {"client_cert": str(cert), "client_key": str(key)}


def signed_by_itself(name: str) -> bytes:
    """A certificate (DER) whose organisation is called ``name``, whatever that is."""
    key = ec.generate_private_key(ec.SECP256R1())
    # X.509 limits a name to 64 characters; a stranger may not care.
    called = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name, _validate=False)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(called, called, key.public_key(), 1, now, now)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
