"""The one process of a directory that recovers what dead ones left, and signs what all of them wrote."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.audit.checkpoint import Anchor, CheckpointLog, Stored
from proxy.audit.faults import AuditFault
from proxy.audit.follower import Follower, Shrunk
from proxy.audit.journal import Journal
from proxy.audit.records import KEY_SUFFIX, segments
from proxy.audit.recovery import Done, done_before, recover
from proxy.audit.segment import UNBORN, is_owned, unlock

log: Final = logging.getLogger("outgate.audit")
LEADER: Final = ".leader"
#: Seconds after which a segment without a durable header was left by a dead process.
_STILLBORN: Final = 3600


class Overseer:
    """Used by one thread. Does nothing while another process of the same directory does it."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        checkpoints: CheckpointLog,
        export: Callable[[Stored], None],
    ) -> None:
        self.recovered = 0
        self.failures = 0
        self._directory, self._journal, self._checkpoints = directory, journal, checkpoints
        self._export = export
        self._lock: int | None = None
        self._followers: dict[str, Follower] = {}
        self._anchors: dict[str, Anchor] = {}
        self._final: set[str] = set()

    def tick(self) -> None:
        """Recover and sign, if this process leads or can lead; never raises, failures are logged and counted."""
        try:
            if self._leads():
                self._look()
                finished = self._recover()
                self._sign(finished)
        except (OSError, AuditFault) as error:
            self._failed(f"checkpoint: {error}")
        except Exception:
            # Whatever somebody wrote into a segment, the thread that signs must go on.
            self.failures += 1
            log.exception("audit: checkpoint")

    def last(self) -> None:
        """When the trail is closed: sign what it ended with, if this process leads."""
        if self._lock is not None:
            try:
                self._look()
                self._sign(self._ended(self._dead()))
            except OSError as error:
                self._failed(f"checkpoint: {error}")
        self.release()

    def release(self) -> None:
        """Let another process lead."""
        if self._lock is not None:
            unlock(self._lock)
        self.forget()

    def forget(self) -> None:
        """In a child after a fork: the parent leads, if it does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _failed(self, text: str) -> None:
        self.failures += 1
        log.error("audit: %s", text)

    def _leads(self) -> bool:
        if self._lock is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._directory / LEADER, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read_log()
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            unlock(descriptor)
            os.close(descriptor)
            raise
        self._lock = descriptor
        self._clear_stillborn()
        return True

    def _read_log(self) -> None:
        self._final.clear()
        self._anchors.clear()
        self._followers.clear()
        for stored in self._checkpoints.entries():
            for anchor in stored.entry.segments:
                if anchor.final or stored.entry.kind == "pruned":
                    self._final.add(anchor.segment)
                    self._anchors.pop(anchor.segment, None)
                else:
                    self._anchors[anchor.segment] = anchor

    def _clear_stillborn(self) -> None:
        for path in self._directory.glob(f"{UNBORN}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STILLBORN and not is_owned(path):
                    path.unlink()
                    path.with_name(f"{path.stem.removeprefix(UNBORN)}{KEY_SUFFIX}").unlink()

    def _look(self) -> set[str]:
        """Find new segments, and read on in all that are not final; returns those that could not be read."""
        unread = set()
        for path in segments(self._directory):
            if path.stem not in self._final and path.stem not in self._followers:
                with contextlib.suppress(FileNotFoundError):
                    self._followers[path.stem] = self._follow(path)
        for name, follower in list(self._followers.items()):
            try:
                follower.advance()
            except FileNotFoundError:  # pruned, or removed: verify tells which
                del self._followers[name]
            except Shrunk as error:
                self._failed(f"{error}. Run: outgate audit verify")
                self._followers[name] = Follower(follower.path)
            except OSError as error:
                self._failed(f"{name} cannot be read: {error}")
                unread.add(name)
        return unread

    def _follow(self, path: Path) -> Follower:
        follower, anchor = Follower(path), self._anchors.get(path.stem)
        if anchor is not None and not follower.holds(anchor):
            self._failed(
                f"{path.stem} is not what a checkpoint says it was: somebody changed it."
                " Run: outgate audit verify"
            )
        return follower

    def _dead(self) -> set[str]:
        """The segments to which nothing comes any more, read to their ends.

        Between the first look and the death they may have been written to, and gone on in another one.
        """
        dead = {name for name, found in self._followers.items() if not is_owned(found.path)}
        unread = self._look()
        return {name for name in dead - unread if name in self._followers}

    def _ended(self, dead: set[str]) -> set[str]:
        """Those of the dead for which nothing is to be done."""
        went_on = {follower.previous for follower in self._followers.values()}
        return {name for name in dead if name in went_on or self._followers[name].kind == "closed"}

    def _recover(self) -> set[str]:
        """Recover the dead; returns the segments that are final. None is final before all are recovered."""
        dead = self._dead()
        ended = self._ended(dead)
        left = sorted(dead - ended)
        if not left:
            return ended
        done = done_before(found.path for found in self._followers.values())
        for name in left:
            try:
                self._answer_for(name, done)
            except (OSError, AuditFault) as error:
                self._failed(f"{name} cannot be recovered: {error}")
                ended.clear()
                break
            ended.add(name)
        return ended

    def _answer_for(self, name: str, done: Done) -> None:
        if name not in done.segments:
            count = recover(self._followers[name].path, name, done, self._journal)
            log.info("audit: %s was left by a dead process; calls recovered: %d", name, count)
            self.recovered += count

    def _sign(self, finished: set[str]) -> None:
        changed = [
            found.anchor(final=name in finished)
            for name, found in self._followers.items()
            if found.seq >= 0 and (name in finished or self._has_changed(found))
        ]
        if not changed:
            return
        stored = self._checkpoints.append("checkpoint", changed)
        self._export(stored)
        self._anchors.update((anchor.segment, anchor) for anchor in changed)
        for name in finished:
            self._final.add(name)
            self._followers.pop(name, None)
            self._anchors.pop(name, None)
        with contextlib.suppress(AuditFault):
            self._journal.record(
                "checkpointed", {"number": stored.entry.number, "digest": stored.digest}
            )

    def _has_changed(self, found: Follower) -> bool:
        """Whether there is more than the note about the last checkpoint, which would make checkpoints without end."""
        anchor = self._anchors.get(found.name)
        if anchor is None:
            return True
        own = found.kind == "checkpointed" and found.seq == anchor.seq + 1
        return found.bytes != anchor.bytes and not own
