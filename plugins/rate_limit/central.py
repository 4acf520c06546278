"""Counters in a Redis that all machines share, reached through the ``limits`` library.

One script and one round trip for all limits of a call. The time is that of the Redis server: the clocks of
the machines that ask do not matter.
"""

import os
import threading
import time
import weakref
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from limits.errors import ConfigurationError
from limits.storage import RedisStorage

from plugins.rate_limit.window import CELLS, Correction, Demand, Taken, Window
from proxy import ConfigError, Secret

Errors: TypeAlias = tuple[type[Exception], ...]
_SCHEMES: Final = ("redis://", "rediss://", "redis+unix://")
_PATIENCE: Final = 0.5  # seconds for a connection, and for an answer
#: All keys lie in one slot, so that one script may use them in a cluster too.
_PREFIX: Final = b"outgate:{limits}:"

#: Window cells are fields of a hash, places are members of a sorted set with the time they end at.
_TAKE: Final = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local call, lease = ARGV[1], tonumber(ARGV[2])
local fits, found = true, {{}}
for i, key in ipairs(KEYS) do
  local limit, amount, span = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local used, cells, cell = 0, {{}}, 0
  if span == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    used = redis.call('ZCARD', key)
  else
    cell = math.floor(now / (span / {CELLS}))
    local all = redis.call('HGETALL', key)
    for at = 1, #all, 2 do
      local number, count = tonumber(all[at]), tonumber(all[at + 1])
      if number < cell - {CELLS} then
        redis.call('HDEL', key, all[at])
      else
        if number > cell then
          redis.call('HDEL', key, all[at])
          redis.call('HINCRBY', key, string.format('%.0f', cell), count)
          number = cell
        end
        used = used + count
        cells[#cells + 1] = string.format('%.0f', number)
        cells[#cells + 1] = count
      end
    end
  end
  if used + amount > limit then fits = false end
  found[i] = {{used, string.format('%.0f', cell), cells}}
end
if fits then
  for i, key in ipairs(KEYS) do
    local amount, span = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
    if span == 0 then
      redis.call('ZADD', key, now + lease, call)
      redis.call('PEXPIRE', key, math.ceil(lease * 1000))
    else
      redis.call('HINCRBY', key, found[i][2], amount)
      redis.call('PEXPIRE', key, math.ceil(span * 1000 * (1 + 2 / {CELLS})))
    end
    found[i][3] = {{}}
  end
end
return {{fits and 1 or 0, string.format('%.6f', now), found}}
"""

_SETTLE: Final = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local call = ARGV[1]
for i, key in ipairs(KEYS) do
  local amount, span, cell = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), ARGV[3 * i + 1]
  if span == 0 then
    redis.call('ZREM', key, call)
  elseif amount > 0 then
    redis.call('HINCRBY', key, string.format('%.0f', math.floor(now / (span / {CELLS}))), amount)
    redis.call('PEXPIRE', key, math.ceil(span * 1000 * (1 + 2 / {CELLS})))
  else
    local count = tonumber(redis.call('HGET', key, cell) or '0')
    if count > 0 then redis.call('HINCRBY', key, cell, math.max(amount, -count)) end
  end
end
"""

_REFRESH: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[1]), ARGV[i + 1])
  redis.call('PEXPIRE', key, math.ceil(tonumber(ARGV[1]) * 1000))
end
"""


class CentralStorage:
    """The Redis at ``url``; a place of a process that died comes back ``lease`` seconds later.

    Raises ``ConfigError`` for a URL that will not do; its methods raise ``redis.RedisError``.
    """

    def __init__(self, url: Secret, lease: float) -> None:
        self._storage = _connected(url)
        self.errors: Errors = (self._storage.dependency.RedisError, OSError)
        client = self._storage.get_connection()
        self._take = client.register_script(_TAKE.encode())
        self._settle = client.register_script(_SETTLE.encode())
        self._places = _Places(client.register_script(_REFRESH.encode()), lease, self.errors)
        self._lease = lease

    def take(self, demands: Sequence[Demand], call: str, _seconds: float) -> list[Taken]:
        """All of the demands or none; places are held for as long as this process lives."""
        values: list[Any] = [call, self._lease]
        for demand in demands:
            values += [demand.limit, demand.amount, demand.span]
        fits, now, found = self._take(keys=_keys(demands), args=values)
        if fits:
            self._places.hold(call, [demand.key for demand in demands if not demand.span])
        return [
            _taken(demand, float(now), bool(fits), state)
            for demand, state in zip(demands, found, strict=True)
        ]

    def settle(self, corrections: Iterable[Correction], call: str) -> None:
        """Correct amounts, and leave places."""
        settled = list(corrections)
        self._places.leave(call, [each.demand.key for each in settled if not each.demand.span])
        values: list[Any] = [call]
        for demand, cell, excess in settled:
            values += [excess, demand.span, cell]
        self._settle(keys=_keys(correction.demand for correction in settled), args=values)


class _Places:
    """The places this process holds, told to Redis again and again by a thread: silence means death."""

    def __init__(self, refresh: Any, lease: float, errors: Errors) -> None:
        self._refresh = refresh
        self._lease = lease
        self.errors = errors
        self.begin_anew()
        _all_places.add(self)

    def begin_anew(self) -> None:
        """In a forked child: nothing of the parent's calls, its thread or its lock."""
        self._held: dict[str, frozenset[bytes]] = {}
        self._lock = threading.Lock()
        self._started = False

    def hold(self, call: str, keys: list[bytes]) -> None:
        if not keys:
            return
        with self._lock:
            if not self._started:
                self._started = True
                _Keeper(weakref.ref(self), self._lease).start()
            self._held[call] = self._held.get(call, frozenset()).union(keys)

    def leave(self, call: str, keys: list[bytes]) -> None:
        with self._lock:
            left = self._held.pop(call, frozenset()).difference(keys)
            if left:
                self._held[call] = left

    def tell(self) -> None:
        """Once more, that the places are held; raises what the storage raises."""
        # Whoever leaves waits for the answer, and so gives back the place that was told once more.
        with self._lock:
            held = [(_PREFIX + key, call) for call, keys in self._held.items() for key in keys]
            if held:
                self._refresh(
                    keys=[key for key, _ in held], args=[self._lease, *(call for _, call in held)]
                )


class _Keeper(threading.Thread):
    """Tells the places again and again, for as long as somebody has them."""

    def __init__(self, places: weakref.ref[_Places], lease: float) -> None:
        super().__init__(name="rate-limit-places", daemon=True)
        self._places = places
        self._pause = lease / 3

    def run(self) -> None:
        while True:
            time.sleep(self._pause)
            places = self._places()
            if places is None:
                return
            # Whoever asks for a place sees and says that Redis is away.
            with suppress(*places.errors):
                places.tell()
            del places


_all_places: Final[weakref.WeakSet[_Places]] = weakref.WeakSet()


def _forked() -> None:
    for places in list(_all_places):
        places.begin_anew()


os.register_at_fork(after_in_child=_forked)


def _keys(demands: Iterable[Demand]) -> list[bytes]:
    return [_PREFIX + demand.key for demand in demands]


def _taken(demand: Demand, now: float, fits: bool, state: Sequence[Any]) -> Taken:
    used, cell, cells = state
    if not demand.span:
        return Taken(0.0 if used < demand.limit else 1.0, used + fits)
    if fits:
        return Taken(0.0, used + demand.amount, demand.span * (CELLS + 1) / CELLS, int(cell))
    pairs = sorted((int(cells[at]), int(cells[at + 1])) for at in range(0, len(cells), 2))
    window = Window(array("q", [part for pair in pairs for part in pair]), demand.span, now)
    return Taken(window.wait(demand.limit, demand.amount), used, window.reset(), int(cell))


def _connected(url: Secret) -> RedisStorage:
    """A storage that is not connected yet."""
    text = url.reveal()
    if not text.startswith(_SCHEMES):
        raise ConfigError(
            f"redis: the URL begins with none of {', '.join(_SCHEMES)}: write redis://host:6379/0"
        )
    try:
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Broken
        from redis.retry import Retry

        options: dict[str, Any] = {
            "socket_timeout": _PATIENCE,
            "socket_connect_timeout": _PATIENCE,
            # A connection that a restarted server has forgotten is worth a second try, a slow answer is not.
            "retry": Retry(NoBackoff(), 1, (Broken,)),
        }
        return RedisStorage(text, **options)
    except (ImportError, ConfigurationError):
        raise ConfigError(
            "redis: the client is not installed: pip install 'outgate[redis]'"
        ) from None
    except ValueError as error:
        raise ConfigError(f"redis: the URL cannot be read: {type(error).__name__}") from None
