"""What the tests of the trail begin with: a directory with keys, records of several processes, checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit import AuditTable, Trail, keys
from proxy.audit.checkpoint import CheckpointLog
from proxy.audit.journal import Journal
from proxy.audit.overseer import Overseer
from proxy.audit.records import Entry, read_directory, read_segment, segments
from proxy.audit.verify import Report, verify


class Place:
    """A directory for a trail, and the keys to it."""

    def __init__(self, root: Path, *, sealed: bool = True) -> None:
        self.root, self.directory = root, root / "audit"
        self.directory.mkdir(mode=0o700)
        keys.create(root / "keys")
        self.private: X25519PrivateKey = keys.sealing_private(root / "keys" / keys.SEALING_PRIVATE)
        self.signing: Ed25519PublicKey = keys.signing_public(root / "keys" / keys.SIGNING_PUBLIC)
        self.signer: Ed25519PrivateKey = keys.signing_private(root / "keys" / keys.SIGNING_PRIVATE)
        self.seal_to = self.private.public_key() if sealed else None

    def table(self, **changes: Any) -> AuditTable:
        fields = {
            "directory": str(self.directory),
            "seal_to": str(self.root / "keys" / keys.SEALING_PUBLIC),
            "sign_with": str(self.root / "keys" / keys.SIGNING_PRIVATE),
        }
        return AuditTable(**{**fields, **changes})

    def trail(self, **changes: Any) -> Trail:
        return Trail(self.table(**changes), "policy-1")

    def journal(self, segment_bytes: int = 1 << 26) -> Journal:
        journal = Journal(self.directory, self.seal_to, "policy-1", segment_bytes)
        journal.try_again()
        return journal

    def overseer(self, journal: Journal) -> Overseer:
        log = CheckpointLog(self.directory, self.signer)
        return Overseer(self.directory, journal, log, lambda _: None)

    @contextmanager
    def led(self) -> Iterator[tuple[Journal, Overseer]]:
        """A journal whose process leads; closed and signed at the end."""
        journal = self.journal()
        overseer = self.overseer(journal)
        overseer.tick()
        yield journal, overseer
        journal.close()
        overseer.last()

    def verify(self, *exported: Path, private: bool = True) -> Report:
        opened = [self.private] if private else []
        return verify(self.directory, private=opened, signing=self.signing, exported=exported)

    def paths(self) -> list[Path]:
        return segments(self.directory)

    def entries(self, kind: str) -> list[Entry]:
        return list(read_directory(self.directory, kinds=[kind]))


def fill(journal: Journal, count: int, prefix: str = "call") -> None:
    """Calls that began and ended."""
    for number in range(count):
        call = f"{prefix}-{number}"
        journal.record("intent", {"id": call, "model": "m"}, call)
        journal.note("outcome", {"id": call, "outcome": "ok"}, call)
    journal.sync()


def kinds(path: Path) -> list[str]:
    return [entry.kind for entry in read_segment(path) if isinstance(entry, Entry)]
