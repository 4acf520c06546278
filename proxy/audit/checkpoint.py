"""The log of checkpoints: what every segment held at a time, each entry signed and bound to the one before.

An entry is a line feed and one JSON object; the signature (Ed25519) is over the bytes before ``,"signature":``, and
``previous`` is the SHA-256 of the whole entry before. Whoever has the public key and one exported entry can check all
that came before it.
"""

import base64
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from proxy.audit.envelope import fingerprint
from proxy.audit.records import CHECKPOINTS, LONGEST_LINE, now
from proxy.audit.segment import unlock, write_whole

_CONTEXT: Final = b"outgate audit checkpoint 1\n"
_SIGNATURE: Final = re.compile(rb',"signature":(?:null|"[A-Za-z0-9+/=]*")\}$')
#: Seconds to wait for another process that appends.
_PATIENCE: Final = 5.0
_BLOCK: Final = 1 << 20
NOTHING_BEFORE: Final = "0" * 64


class Anchor(Struct, frozen=True, kw_only=True):
    """What a segment held: its first ``bytes`` bytes, which end with record ``seq``. ``final`` when no more comes."""

    segment: str
    seq: int
    bytes: int
    sha256: str
    mac: str
    final: bool = False


class Checkpoint(Struct, frozen=True, kw_only=True):
    """One entry: the segments that changed since the one before, or those that retention removed."""

    number: int
    time: str
    kind: Literal["checkpoint", "pruned"]
    trail: str
    segments: tuple[Anchor, ...]
    previous: str
    key: str | None
    signature: str | None


class Stored(Struct, frozen=True):
    """An entry together with its text; ``digest`` is what the next one names as ``previous``."""

    entry: Checkpoint
    line: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.line).hexdigest()

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is this key's, over this text."""
        found = _SIGNATURE.search(self.line)
        if found is None or self.entry.signature is None:
            return False
        try:
            key.verify(
                base64.b64decode(self.entry.signature), _CONTEXT + self.line[: found.start()]
            )
        except (InvalidSignature, ValueError):
            return False
        return True


_decoder: Final = msgspec.json.Decoder(Checkpoint)


def parse(line: bytes) -> Stored | None:
    """An entry from its text, or nothing if it is none."""
    try:
        entry = _decoder.decode(line)
        datetime.fromisoformat(entry.time)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return Stored(entry, line)


def read_checkpoints(path: str | Path) -> Iterator[tuple[int, Stored | None]]:
    """Every line that is not empty, with its number; ``None`` for one that is no entry. Raises ``OSError``."""
    number = 0
    with Path(path).open("rb") as file:
        while raw := file.readline(LONGEST_LINE):
            number += 1
            if line := raw.strip(b"\r\n"):
                yield number, parse(line)


class CheckpointLog:
    """``checkpoints.jsonl`` of a directory; several processes may append."""

    def __init__(self, directory: Path, signer: Ed25519PrivateKey | None) -> None:
        self.path = directory / CHECKPOINTS
        self._signer = signer
        public = signer.public_key().public_bytes_raw() if signer is not None else None
        self._key = fingerprint(public) if public is not None else None

    def append(self, kind: Literal["checkpoint", "pruned"], anchors: Sequence[Anchor]) -> Stored:
        """Add an entry and return when it is durable; raises ``OSError``."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        try:
            stored = self._made(kind, anchors, _last(descriptor))
            write_whole(descriptor, b"\n" + stored.line)
            os.fdatasync(descriptor)
        finally:
            unlock(descriptor)
            os.close(descriptor)
        return stored

    def _made(
        self,
        kind: Literal["checkpoint", "pruned"],
        anchors: Sequence[Anchor],
        before: Stored | None,
    ) -> Stored:
        fields: dict[str, Any] = {
            "number": before.entry.number + 1 if before is not None else 1,
            "time": now()[0],
            "kind": kind,
            "trail": before.entry.trail if before is not None else os.urandom(8).hex(),
            "segments": anchors,
            "previous": before.digest if before is not None else NOTHING_BEFORE,
            "key": self._key,
        }
        unsigned = msgspec.json.encode(fields)[:-1]
        signature = b"null"
        if self._signer is not None:
            signature = b'"%b"' % base64.b64encode(self._signer.sign(_CONTEXT + unsigned))
        stored = parse(b'%b,"signature":%b}' % (unsigned, signature))
        if stored is None:
            raise OSError(errno.EINVAL, "the checkpoint cannot be read back")
        return stored

    def entries(self) -> Iterator[Stored]:
        """All whole entries, the oldest first; none if there is no log yet. Raises ``OSError``."""
        if self.path.exists():
            yield from (stored for _, stored in read_checkpoints(self.path) if stored is not None)


def _lock(descriptor: int) -> None:
    """Who appends is done in no time, unless it was stopped: then the next checkpoint says what this one would have."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _last(descriptor: int) -> Stored | None:
    """The last whole entry: what stands after it was cut by a full disk or a kill."""
    end = os.fstat(descriptor).st_size
    length = 0
    while length < end:
        length = min(end, length * 2 or _BLOCK)
        lines = os.pread(descriptor, length, end - length).split(b"\n")
        # The first may be the second half of a line.
        for line in reversed(lines if length == end else lines[1:]):
            stored = parse(line) if line else None
            if stored is not None:
                return stored
    return None
