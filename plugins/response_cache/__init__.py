"""Answers a call that was asked before with the answer of then, where it would be the same again."""

import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from plugins.response_cache.asked import Per, Wishes, is_repeatable, is_whole, message, subject
from plugins.response_cache.central import CentralStorage
from plugins.response_cache.files import FileStorage
from plugins.response_cache.outage import Outage
from plugins.response_cache.sealing import Damaged, Entry, Seal
from proxy import Call, ConfigError, Deployment, Reply, Secret, hookimpl, only

_SHORTEST_SECRET: Final = 32
_LONGEST_TTL: Final = 366 * 86_400.0
_FILE: Final = "outgate-cache.db"


@dataclass(frozen=True)
class ResponseCache:
    """Keeps answers for ``ttl`` seconds, ``per`` principal, team or for all, and gives them to the same call again.

    ``secret`` is what keys and places of entries are derived from, together with the call. Entries are in one file
    that all workers of a machine share, at ``path``, or in the Redis at ``redis``. ``most_bytes`` is the largest entry;
    the file holds ``most_entries`` and ``most_total`` bytes of them. Only what would be the same again is kept, unless
    ``sampled``. Request headers that upstreams may get count as part of the call, but for ``ignored_headers``.
    """

    deployment: Deployment
    secret: Secret
    per: Per = "principal"
    ttl: float = 3600.0
    sampled: bool = False
    path: str | None = None
    redis: Secret | None = None
    most_bytes: int = 262_144
    most_entries: int = 10_000
    most_total: int = 268_435_456
    ignored_headers: tuple[str, ...] = ("idempotency-key",)
    _storage: FileStorage | CentralStorage = field(init=False, repr=False)
    _outage: Outage = field(init=False, repr=False)
    _ignored: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ``ConfigError``; no file and no connection is opened before the first call."""
        self._check()
        storage: FileStorage | CentralStorage
        if self.redis is not None:
            storage = CentralStorage(self.redis)
            what = "the Redis of the response cache"
        else:
            path = _file(self.path)
            storage = FileStorage(path, self.most_entries, self.most_total)
            what = f"{path} with the entries of the response cache (remove it if it is damaged)"
        object.__setattr__(self, "_storage", storage)
        object.__setattr__(self, "_outage", Outage(what))
        ignored = frozenset(name.lower() for name in self.ignored_headers)
        object.__setattr__(self, "_ignored", ignored)

    def _check(self) -> None:
        if len(self.secret.reveal()) < _SHORTEST_SECRET:
            raise ConfigError(
                f"secret: shorter than {_SHORTEST_SECRET} characters can be guessed: openssl rand -hex 32"
            )
        if self.redis is not None and self.path is not None:
            raise ConfigError("path and redis: entries are in one place, remove one of the two")
        if not (math.isfinite(self.ttl) and 0 < self.ttl <= _LONGEST_TTL):
            raise ConfigError(f"ttl = {self.ttl}: write seconds, above 0 and up to a year")
        for name in ("most_bytes", "most_entries", "most_total"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}: at least 1; to keep nothing, remove the plugin"
                )

    @hookimpl
    @only("completions", "chat", "embeddings")
    def answer_request(self, call: Call) -> Reply | None:
        """The answer that was kept for this very call, if there is one."""
        wishes = Wishes(call.headers)
        if not wishes.answer or not is_repeatable(call, sampled=self.sampled):
            return None
        entry = self._found(self._seal(call))
        most = self.ttl if wishes.max_age is None else min(self.ttl, wishes.max_age)
        age = entry.age(time.time(), most) if entry else None
        if entry is None or age is None or not _fits(entry, call):
            return None
        return Reply(
            status=200, body=entry.body, headers={"x-outgate-cache": "hit", "age": str(int(age))}
        )

    @hookimpl
    @only("completions", "chat", "embeddings")
    def observe_response(self, call: Call, reply: Reply) -> None:
        """Keep an answer that will do for the same call."""
        if not Wishes(call.headers).keep or not is_repeatable(call, sampled=self.sampled):
            return
        if not isinstance(reply.body, Mapping) or not is_whole(call.endpoint, reply.body):
            return
        now = time.time()
        seal = self._seal(call)
        sealed = seal.close(Entry(now, call.stream, reply.body))
        if len(sealed) > self.most_bytes or self._outage.is_waiting():
            return
        try:
            self._storage.put(seal.place, sealed, now, self.ttl)
        except self._storage.errors as error:
            # Reading may go on, as it does beside another process that writes for long.
            self._outage.failed(error, lasts=False)

    def _seal(self, call: Call) -> Seal:
        headers = (h for h in self.deployment.passed_headers if h not in self._ignored)
        text = message(call, subject(self.per, call), self.deployment.digest, headers)
        return Seal(self.secret.reveal().encode(), text)

    def _found(self, seal: Seal) -> Entry | None:
        if self._outage.is_waiting():
            return None
        try:
            sealed = self._storage.get(seal.place, time.time())
        except self._storage.errors as error:
            self._outage.failed(error)
            return None
        self._outage.ended()
        try:
            return seal.open(sealed) if sealed else None
        except Damaged as damaged:
            self._outage.failed(damaged, lasts=False)
            return None


def _fits(entry: Entry, call: Call) -> bool:
    """Whether an answer says all that the caller is to be told: a stream may have come without its usage."""
    options = call.body.get("stream_options") or {}
    wants_usage = not call.stream or options.get("include_usage") is True
    return not (entry.streamed and wants_usage and entry.body.get("usage") is None)


def _file(path: str | None) -> Path:
    """Where the entries are: at ``path``, else in this user's directory for what need not last."""
    if path is not None:
        if not Path(path).parent.is_dir():
            raise ConfigError(
                f"path {path!r}: there is no such directory: make it, or name a file in another"
            )
        return Path(path)
    if cache := os.environ.get("CACHE_DIRECTORY"):
        return Path(cache.partition(":")[0]) / _FILE
    folder = Path(tempfile.gettempdir()) / f"outgate-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else: set path to a file of your own")
    return folder / _FILE
