"""Entries in a Redis that all machines share; when it is full, it throws out what its own policy says."""

from typing import TYPE_CHECKING, Final

from proxy import ConfigError, Secret

if TYPE_CHECKING:
    from redis import Redis

_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_PATIENCE: Final = 0.5  # seconds for a connection, and for an answer
_PREFIX: Final = b"outgate:cache:"


class CentralStorage:
    """The Redis at ``url``, connected at its first use.

    Raises ``ConfigError`` for a URL that will not do; its methods raise ``redis.RedisError`` or ``OSError``.
    """

    def __init__(self, url: Secret) -> None:
        self._client, fault = _client(url)
        self.errors: tuple[type[Exception], ...] = (fault, OSError)

    def get(self, place: bytes, _now: float) -> bytes | None:
        """What is kept there."""
        found = self._client.get(_PREFIX + place)
        return found if isinstance(found, bytes) else None

    def put(self, place: bytes, sealed: bytes, _now: float, seconds: float) -> None:
        """Keep it there, instead of what was there before, for so many seconds."""
        self._client.set(_PREFIX + place, sealed, px=max(1, int(seconds * 1000)))


def _client(url: Secret) -> "tuple[Redis, type[Exception]]":
    text = url.reveal()
    if not text.startswith(_SCHEMES):
        raise ConfigError(
            f"redis: the URL begins with none of {', '.join(_SCHEMES)}: write redis://host:6379/0"
        )
    try:
        from redis import Redis, RedisError
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Broken
        from redis.retry import Retry
    except ImportError:
        raise ConfigError(
            "redis: the client is not installed: pip install 'outgate[redis]'"
        ) from None
    try:
        client = Redis.from_url(
            text,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            # A connection that a restarted server has forgotten is worth a second try, a slow answer is not.
            retry=Retry(NoBackoff(), 1, (Broken,)),
        )
    except ValueError as error:
        raise ConfigError(f"redis: the URL cannot be read: {type(error).__name__}") from None
    return client, RedisError
