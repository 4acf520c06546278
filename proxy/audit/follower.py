"""Reading a segment along as it grows: how far it is whole, what its bytes hash to, and who came before it."""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO, Final

from proxy.audit.checkpoint import Anchor
from proxy.audit.records import SUFFIX, header, parse

_CHUNK: Final = 1 << 20


class Shrunk(Exception):
    """A segment is shorter than it was: somebody else changed it."""


class Follower:
    """One segment, read from where the last look ended. Hashing costs what is new, and no JSON but the last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(SUFFIX)
        self.bytes = 0
        self.seq = -1
        self.mac = ""
        self.kind = ""
        #: The segment that this one goes on from, if any.
        self.previous: str | None = _previous(header(path))
        self._hash = hashlib.sha256()

    def advance(self) -> None:
        """Read to the end of the last whole record and make that durable.

        Raises ``OSError``, and ``Shrunk``.
        """
        reader = _Reader(self._hash.copy(), self.bytes)
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.bytes:
                raise Shrunk(f"{self.name} is shorter than it was: somebody changed it")
            file.seek(self.bytes)
            reader.read(file)
            # Else a power cut could leave less than what is about to be signed.
            os.fdatasync(file.fileno())
        self._hash, self.bytes = reader.digest, reader.bytes
        if _is_record(reader.last):
            members, _ = parse(reader.last)
            self.seq, self.mac, self.kind = members.seq, members.mac, members.kind

    def anchor(self, *, final: bool) -> Anchor:
        """What was read so far, to be signed."""
        return Anchor(
            segment=self.name,
            seq=self.seq,
            bytes=self.bytes,
            sha256=self._hash.hexdigest(),
            mac=self.mac,
            final=final,
        )

    def holds(self, anchor: Anchor) -> bool:
        """Whether the file still begins with what an anchor says; raises ``OSError``."""
        digest, left = hashlib.sha256(), anchor.bytes
        with self.path.open("rb") as file:
            while left and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
        return left == 0 and digest.hexdigest() == anchor.sha256


class _Reader:
    """Counts and hashes whole lines; what it read counts only when it is known to be durable."""

    def __init__(self, digest: "hashlib._Hash", count: int) -> None:
        self.digest, self.bytes = digest, count
        self.last = b""

    def read(self, file: BinaryIO) -> None:
        pending = b""
        while chunk := file.read(_CHUNK):
            whole, pending = _split(pending + chunk)
            self._take(whole)
        if _is_record(pending[1:]):
            self._take(pending)

    def _take(self, data: bytes) -> None:
        if data:
            self.digest.update(data)
            self.bytes += len(data)
            self.last = data[data.rfind(b"\n") + 1 :]


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The lines that are followed by another one, and the rest from its line feed on."""
    cut = max(0, data.rfind(b"\n"))
    return data[:cut], data[cut:]


def _is_record(text: bytes) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _previous(head: Any) -> str | None:
    found = (head or {}).get("previous")
    name = found.get("segment") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None
