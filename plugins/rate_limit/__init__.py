"""Limits how many requests and tokens a caller may use in a time, and how many calls at once."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from plugins.rate_limit.central import CentralStorage
from plugins.rate_limit.database import is_sqlite
from plugins.rate_limit.estimate import output_tokens, prompt_tokens, used_tokens
from plugins.rate_limit.grants import Grant, change
from plugins.rate_limit.outage import Outage
from plugins.rate_limit.replies import headers, refusal
from plugins.rate_limit.rules import Limit, Rule, compiled
from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Correction, Demand, Taken
from proxy import Admission, Call, ConfigError, Deny, Record, Secret, hookimpl

_LONGEST_PLACE: Final = (
    60.0  # seconds beyond its deadline after which a call's place is free in any case
)
_FILE: Final = "outgate-limits.lmdb"
_SHORTEST_LEASE: Final = 1.0


@dataclass(frozen=True)
class RateLimit:
    """``rules`` with ``per``, ``match``, ``models`` and ``requests``, ``tokens`` or ``concurrent``.

    Counters are in one file that all workers of a machine share, at ``path``, or in the Redis at ``redis``.
    While they cannot be reached, calls are refused with 503, or pass with ``on_outage = "allow"``.
    """

    rules: tuple[Rule, ...]
    redis: Secret | None = None
    path: str | None = None
    on_outage: Literal["refuse", "allow"] = "refuse"
    output_tokens: int = 500
    lease: float = 15.0
    _limits: tuple[Limit, ...] = field(init=False, repr=False)
    _counts_tokens: bool = field(init=False, repr=False)
    _storage: SharedStorage | CentralStorage = field(init=False, repr=False)
    _errors: tuple[type[Exception], ...] = field(init=False, repr=False)
    _outage: Outage = field(init=False, repr=False)
    _grants: dict[str, Grant] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Compile the rules; no file and no connection is opened before the first call."""
        self._check()
        limits = compiled(self.rules)
        storage: SharedStorage | CentralStorage
        if self.redis is not None:
            storage = CentralStorage(self.redis, self.lease)
            what = "the Redis of the rate limits"
        else:
            path = _file(self.path)
            storage = SharedStorage(f"{SCHEME}://{path}")
            what = f"{path} with the counters of the rate limits (remove it if it is damaged)"
        found = {
            "_limits": limits,
            "_counts_tokens": any(limit.kind == "tokens" for limit in limits),
            "_storage": storage,
            "_errors": storage.errors,
            "_outage": Outage(self.on_outage, what),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        if self.redis is not None and self.path is not None:
            raise ConfigError(
                "path and redis: the counters are in one place, remove one of the two"
            )
        if self.output_tokens < 1:
            raise ConfigError(f"output_tokens = {self.output_tokens}: at least 1")
        if not self.lease >= _SHORTEST_LEASE:
            raise ConfigError(f"lease = {self.lease}: at least {_SHORTEST_LEASE:g} second")

    @hookimpl
    def admit(self, call: Call) -> Admission | Deny | None:
        """Take what the call needs of every limit, or nothing of any and refuse with 429.

        Asked again about a call, with what is sent now: that takes the place of what was taken for it.
        """
        prompt = prompt_tokens(call) if self._counts_tokens else 0
        tokens = prompt + output_tokens(call, self.output_tokens) if self._counts_tokens else 0
        claims = [claim for limit in self._limits for claim in limit.claims(call, tokens)]
        former = self._grants.get(call.id)
        if not claims and former is None:
            return None
        wanted = change(former, claims)
        taken = self._take(wanted.demands, call) if wanted.demands else []
        if taken is None:
            return None
        outcomes = wanted.outcomes(taken)
        refused = refusal(outcomes) if wanted.demands else None
        if refused is not None:
            return refused
        self._grants[call.id] = Grant(wanted.held(outcomes), prompt, tokens)
        self._correct(wanted.back, call.id)
        return Admission(headers(outcomes))

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        """Count the tokens that were used instead of those that were guessed, and leave the places."""
        grant = self._grants.pop(record.id, None)
        if grant is not None:
            self._correct(grant.settled(used_tokens(record, grant.prompt)), record.id)

    def _correct(self, corrections: Sequence[Correction], call: str) -> None:
        if not corrections:
            return
        try:
            self._storage.settle(corrections, call)
        except self._errors as error:
            # The guess stays, and places come back by themselves.
            self._outage.began(error)

    def _take(self, demands: Sequence[Demand], call: Call) -> list[Taken] | None:
        """What became of each demand; None when calls pass without limits."""
        if not self._outage.is_waiting():
            try:
                taken = self._storage.take(demands, call.id, call.seconds_left() + _LONGEST_PLACE)
            except self._errors as error:
                self._outage.began(error)
            else:
                self._outage.ended()
                return taken
        self._outage.endure()
        return None


def _file(path: str | None) -> Path:
    """Where the counters are: at ``path``, else in this user's directory for what need not last."""
    if path is not None:
        if not Path(path).parent.is_dir():
            raise ConfigError(
                f"path {path!r}: there is no such directory: make it, or name a file in another"
            )
        if is_sqlite(Path(path)):
            raise ConfigError(
                f"path {path!r}: a SQLite file, as earlier versions made them: remove it with its -wal"
                " and -shm, and the counts begin anew; or name another file"
            )
        return Path(path)
    runtime = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / _FILE
    folder = Path(tempfile.gettempdir()) / f"outgate-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else: set path to a file of your own")
    return folder / _FILE
