"""Removing old segments so that the rest stays verifiable: a signed entry says which, before they go."""

import contextlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from proxy.audit.checkpoint import Anchor, CheckpointLog, Stored
from proxy.audit.follower import Follower
from proxy.audit.records import KEY_SUFFIX, SUFFIX, Entry, read_segment, segments
from proxy.errors import ConfigError

_TOGETHER: Final = 1000


class Due(Struct, frozen=True, kw_only=True):
    """What is old enough: ``segments`` can go, the others stay for the reason that their field is named after.

    ``open`` ones have no final checkpoint, ``unproven`` ones have one that no trusted key signed, ``changed`` ones are
    not what it says they were. All are in the order in which they were begun.
    """

    segments: tuple[Anchor, ...] = ()
    open: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Retention:
    """Which segments of a directory are closed, as checkpoints tell that one of the ``trusted`` keys signed.

    With ``unsigned``, checkpoints without a signature count, too: who can write in the directory can write those.
    Raises ``ConfigError`` if the log is signed and no ``signer`` is given, and ``OSError``.
    """

    def __init__(
        self,
        directory: Path,
        signer: Ed25519PrivateKey | None,
        trusted: Sequence[Ed25519PublicKey] = (),
        *,
        unsigned: bool = False,
    ) -> None:
        self._directory, self._log = directory, CheckpointLog(directory, signer)
        self._trusted = [*trusted, *([signer.public_key()] if signer is not None else [])]
        self._unsigned = unsigned or signer is None
        self._final: dict[str, tuple[datetime, Anchor]] = {}
        self._doubtful: set[str] = set()
        key = None
        for stored in self._log.entries():
            key = stored.entry.key
            self._take(stored)
        if key is not None and signer is None:
            raise ConfigError(
                f"the checkpoints of {directory} are signed with key {key}, and so must be what retention removes:"
                " name the configuration, or the key with --sign-with"
            )

    def _take(self, stored: Stored) -> None:
        entry = stored.entry
        final = [anchor for anchor in entry.segments if anchor.final or entry.kind == "pruned"]
        if final and not self._counts(stored):
            self._doubtful.update(anchor.segment for anchor in final)
            return
        at = datetime.fromisoformat(entry.time)
        for anchor in final:
            # Its first final checkpoint; an entry about its removal says nothing newer.
            self._final.setdefault(
                anchor.segment, (at if at.tzinfo else at.replace(tzinfo=UTC), anchor)
            )

    def _counts(self, stored: Stored) -> bool:
        if stored.entry.signature is None:
            return self._unsigned
        return any(map(stored.is_signed_by, self._trusted))

    def due(self, before: datetime, progress: Callable[[int], None] = lambda _: None) -> Due:
        """What was closed before then, and whether it is unchanged; ``progress`` is told bytes that were read.

        Raises ``OSError``.
        """
        go: list[Anchor] = []
        stay: dict[str, list[str]] = {"open": [], "unproven": [], "changed": []}
        for path in segments(self._directory):
            with contextlib.suppress(FileNotFoundError):  # somebody else removes, too
                found = self._looked_at(path, before)
                if isinstance(found, Anchor):
                    go.append(found)
                    progress(found.bytes)
                elif found is not None:
                    stay[found].append(path.stem)
        return Due(segments=tuple(go), **{name: tuple(found) for name, found in stay.items()})

    def _looked_at(self, path: Path, before: datetime) -> Anchor | str | None:
        """The anchor of a segment that can go, why it stays, or nothing if it is not old enough."""
        if path.stem in self._final:
            at, anchor = self._final[path.stem]
            if at >= before:
                return None
            return anchor if _is_unchanged(path, anchor) else "changed"
        if _modified(path) >= before:
            return None
        return "unproven" if path.stem in self._doubtful else "open"

    def remove(self, due: Due, progress: Callable[[int], None] = lambda _: None) -> None:
        """Remove what ``due`` found; ``progress`` is told numbers of segments.

        Killed in between, the next time goes on. Raises ``OSError``.
        """
        for begin in range(0, len(due.segments), _TOGETHER):
            together = due.segments[begin : begin + _TOGETHER]
            self._log.append("pruned", together)
            for anchor in together:
                for suffix in (SUFFIX, KEY_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):
                        (self._directory / f"{anchor.segment}{suffix}").unlink()
                progress(1)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_unchanged(path: Path, anchor: Anchor) -> bool:
    """What was changed is evidence, and is not for retention to remove. A write that was cut may come last."""
    added = any(isinstance(found, Entry) for found in read_segment(path, anchor.bytes))
    return not added and Follower(path).holds(anchor)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
