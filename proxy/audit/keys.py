"""The keys of the audit trail: their files, their making, and what is said when one is missing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from proxy.errors import ConfigError
from proxy.secret import Secret

#: The files that ``create`` makes. The first belongs to the auditor and is moved off the machine.
SEALING_PRIVATE: Final = "audit-sealing.private.pem"
SEALING_PUBLIC: Final = "audit-sealing.public.pem"
SIGNING_PRIVATE: Final = "audit-signing.private.pem"
SIGNING_PUBLIC: Final = "audit-signing.public.pem"
_OTHERS: Final = 0o007


def create(directory: Path, password: Secret | None = None) -> list[Path]:
    """Make both pairs; ``password`` encrypts the private sealing key. Raises ``ConfigError`` if a file is there."""
    sealing, signing = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = [
        (SEALING_PRIVATE, _private_pem(sealing, password), 0o600),
        (SEALING_PUBLIC, _public_pem(sealing.public_key()), 0o644),
        (SIGNING_PRIVATE, _private_pem(signing, None), 0o600),
        (SIGNING_PUBLIC, _public_pem(signing.public_key()), 0o644),
    ]
    paths = [directory / name for name, _, _ in made]
    for path in paths:
        if path.exists():
            raise ConfigError(
                f"{path} is there already: keys are never overwritten. Name another directory, or move it away."
            )
    for path, (_, text, mode) in zip(paths, made, strict=True):
        _write_new(path, text, mode)
    return paths


def _write_new(path: Path, text: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _private_pem(key: X25519PrivateKey | Ed25519PrivateKey, password: Secret | None) -> bytes:
    encryption = (
        BestAvailableEncryption(password.reveal().encode())
        if password is not None
        else NoEncryption()
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _public_pem(key: X25519PublicKey | Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sealing_public(path: str | Path, where: str = "seal_to") -> X25519PublicKey:
    """The public key that segments are sealed to; raises ``ConfigError``."""
    key: X25519PublicKey = _loaded(path, where, load_pem_public_key, X25519PublicKey)
    return key


def signing_public(path: str | Path, where: str = "the signing key") -> Ed25519PublicKey:
    """The public key that checkpoints are checked with; raises ``ConfigError``."""
    key: Ed25519PublicKey = _loaded(path, where, load_pem_public_key, Ed25519PublicKey)
    return key


def sealing_private(
    path: str | Path, password: Secret | None = None, where: str = "the private key"
) -> X25519PrivateKey:
    """The auditor's key; raises ``ConfigError``."""
    key: X25519PrivateKey = _loaded(path, where, _opener(password), X25519PrivateKey)
    return key


def signing_private(path: str | Path, where: str = "sign_with") -> Ed25519PrivateKey:
    """The key that signs checkpoints; raises ``ConfigError``, also where others may read its file."""
    key: Ed25519PrivateKey = _loaded(path, where, _opener(None), Ed25519PrivateKey)
    if Path(path).stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{where} = {str(path)!r}: every user of this machine may read it. Run: chmod o= {path}"
        )
    return key


def _opener(password: Secret | None) -> Callable[[bytes], Any]:
    given = password.reveal().encode() if password is not None else None
    return lambda text: load_pem_private_key(text, given)


def _loaded(path: str | Path, where: str, load: Callable[[bytes], Any], wanted: Any) -> Any:
    try:
        key = load(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{where} = {str(path)!r}: {error.strerror}. Make keys with: outgate audit init DIRECTORY"
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "it needs a password" if "assword" in str(error) else "it is not such a key in PEM"
        raise ConfigError(
            f"{where} = {str(path)!r}: {reason}. Make keys with: outgate audit init DIRECTORY"
        ) from None
    if not isinstance(key, wanted):
        kind = wanted.__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
        raise ConfigError(
            f"{where} = {str(path)!r} holds a key of another kind: an {kind} key is needed,"
            " see: outgate audit init"
        )
    return key
