"""``[store]``: where virtual keys, budgets and usage are kept."""

import re
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from proxy.errors import ConfigError, nearest
from proxy.secret import Secret

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
_FORMS: Final = (
    "sqlite:///outgate.db, sqlite:////var/lib/outgate/outgate.db or postgresql://user@host/name"
)
#: Whoever has the digests and can guess the pepper can test keys against them.
_SHORTEST_PEPPER: Final = 32

_FOREVER: Final = "forever"
_AGE: Final = re.compile(r"([0-9]{1,5})([dw])")
_DAYS: Final = {"d": 1, "w": 7}
_DAY: Final = 86_400
#: A clock that jumps by hours must not make anything old that is in use.
_SHORTEST_AGE: Final = 7


class StoreTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[store]``: ``url`` of the database, ``pepper`` of the keys' digests, ``lease`` in seconds.

    ``keep_usage`` is the age after which usage and the purses of past periods are removed.
    A URL with a password in it is given as ``{ env = "NAME" }`` or ``{ file = "/path" }``.
    """

    url: str | dict[str, str] = "sqlite:///outgate.db"
    pepper: Secret | None = None
    lease: float = 15.0
    keep_usage: str = "400d"

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a URL, a pepper, a lease or an age that will not do."""
        self.address()
        self.kept_seconds()
        if self.pepper is not None and len(self.pepper.reveal()) < _SHORTEST_PEPPER:
            raise ConfigError(
                f"store.pepper: shorter than {_SHORTEST_PEPPER} characters can be guessed:"
                " make one with openssl rand -hex 32"
            )
        if not 1 <= self.lease <= 3600:  # noqa: PLR2004 - NaN is refused by this too
            raise ConfigError(f"store.lease = {self.lease!r}: write 1 to 3600 seconds")

    def kept_seconds(self) -> int | None:
        """How long usage is kept, None for ever; raises ``ConfigError``."""
        if self.keep_usage == _FOREVER:
            return None
        found = _AGE.fullmatch(self.keep_usage)
        days = int(found[1]) * _DAYS[found[2]] if found else 0
        if days < _SHORTEST_AGE:
            raise ConfigError(
                f'store.keep_usage = {self.keep_usage!r}: write days or weeks, "400d" or "60w", at least'
                f' "{_SHORTEST_AGE}d", or "{_FOREVER}"'
            )
        return days * _DAY

    def required_pepper(self) -> Secret:
        """The pepper; raises ``ConfigError`` where there is none."""
        if self.pepper is None:
            raise ConfigError(
                'store.pepper is missing: add pepper = { env = "OUTGATE_PEPPER" } to [store], and keep what it'
                " holds (openssl rand -hex 32): without it no key is known"
            )
        return self.pepper

    def address(self) -> Secret:
        """The URL, checked; raises ``ConfigError``."""
        if not isinstance(self.url, str):
            from proxy.convert import convert  # which knows the store, too

            found = convert(self.url, Secret, where="store.url")
            _check_url(found.reveal(), shown="the URL it holds")
            return found
        _check_url(self.url, shown=_veiled(self.url))
        if urlsplit(self.url).password:
            raise ConfigError(
                f"store.url = {_veiled(self.url)!r}: a password never stands in the configuration itself:"
                ' write url = { env = "NAME" } or { file = "/path" }'
            )
        return Secret(self.url)


def _check_url(url: str, *, shown: str) -> None:
    scheme, separator, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if not separator or kind not in (SQLITE, POSTGRESQL):
        raise ConfigError(
            f"store.url: {shown} names no database known here.{nearest(kind, (SQLITE, POSTGRESQL))}"
            f" Write {_FORMS}"
        )
    if scheme != kind:
        raise ConfigError(f"store.url: {shown}: leave out the driver, write {kind}://…")
    if kind == SQLITE and (rest in ("", "/") or ":memory:" in rest or not rest.startswith("/")):
        raise ConfigError(
            f"store.url: {shown} names no file, and every process would have a database of its own."
            f" Write {_FORMS}"
        )


def _veiled(url: str) -> str:
    """A URL without its password."""
    before, at, after = url.rpartition("@")
    scheme, _, user = before.partition("://")
    return f"{scheme}://{user.partition(':')[0]}@{after}" if at else url
