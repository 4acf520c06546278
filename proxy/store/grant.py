"""What a virtual key says: who holds it, and what it may be used for."""

import ipaddress
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Final, get_args

from msgspec import Struct, field

from proxy.errors import ConfigError, nearest
from proxy.frozen import FrozenDict
from proxy.model import Endpoint, Principal
from proxy.patterns import Globs

#: Labels of a principal that come from the key itself.
RESERVED: Final = ("key", "owner", "team")
_ENDPOINTS: Final[tuple[str, ...]] = get_args(Endpoint)
_LONGEST: Final = 128
_MOST_LABELS: Final = 32
_ID: Final = re.compile(r"key_[0-9a-f]{16}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Grant(Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """What an operator gives with a key; an empty list allows everything. ``expires`` is seconds since 1970.

    ``models`` and ``endpoints`` are globs, ``networks`` are addresses or CIDR networks of the callers,
    ``upstream`` is the one upstream, with its credential, that calls with the key go to.
    """

    name: str
    owner: str | None = None
    team: str | None = None
    groups: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    upstream: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires: int | None = None

    def check(self, now: float) -> None:
        """Raises ``ConfigError`` for what a key cannot say; ``now`` is seconds since 1970."""
        for name in ("name", "owner", "team", "upstream"):
            _check_text(name, getattr(self, name))
        if _ID.fullmatch(self.name) or self.name.startswith("og-"):
            raise ConfigError(f"name = {self.name!r} looks like an id or a secret: choose another")
        self._check_lists()
        self._check_metadata()
        if self.expires is not None and self.expires <= now:
            raise ConfigError("expires: that moment has passed")

    def _check_lists(self) -> None:
        for name in ("groups", "models", "endpoints"):
            for item in getattr(self, name):
                _check_text(name, item)
        for glob in self.endpoints:
            if not any(map(Globs([glob]).match, _ENDPOINTS)):
                raise ConfigError(
                    f"endpoints: {glob!r} fits no endpoint.{nearest(glob, _ENDPOINTS)}"
                    f" There are: {', '.join(_ENDPOINTS)}"
                )
        for network in self.networks:
            _network(network)

    def _check_metadata(self) -> None:
        if len(self.metadata) > _MOST_LABELS:
            raise ConfigError(f"metadata: more than {_MOST_LABELS} labels")
        for name, text in self.metadata.items():
            if name in RESERVED:
                raise ConfigError(f"metadata: {name!r} is set by the key itself: use another name")
            _check_text("metadata", name)
            _check_text(f"metadata.{name}", text)


class Key(Grant, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A virtual key as the store has it; its secret is not among what is known of it."""

    id: str
    created: int
    revoked: int | None = None

    def live(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    @cached_property
    def principal(self) -> Principal:
        """Whom it stands for; labels name its owner, its team and itself."""
        labels = {"owner": self.owner, "team": self.team, **self.metadata, "key": self.id}
        groups = (*self.groups, self.team) if self.team else self.groups
        told = {name: text for name, text in labels.items() if text is not None}
        return Principal(self.name, tuple(dict.fromkeys(groups)), FrozenDict(told))

    def takes_model(self, model: str) -> bool:
        """Whether it may be used for a model."""
        return not self.models or self._models.match(model)

    def takes_endpoint(self, endpoint: str) -> bool:
        """Whether it may be used for an endpoint."""
        return not self.endpoints or self._endpoints.match(endpoint)

    def takes_address(self, client: str) -> bool:
        """Whether it may be used from an address; one that is none fits no network."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        inner = getattr(address, "ipv4_mapped", None) or address
        return any(inner in network for network in self._networks)

    @cached_property
    def _models(self) -> Globs:
        return Globs(self.models)

    @cached_property
    def _endpoints(self) -> Globs:
        return Globs(self.endpoints)

    @cached_property
    def _networks(self) -> tuple[Network, ...]:
        return tuple(map(_network, self.networks))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"networks: {text!r} is no network ({error}): write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
        ) from None


def _check_text(name: str, text: str | None) -> None:
    if text is None:
        return
    if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise ConfigError(
            f"{name} = {text[:_LONGEST]!r}: write 1 to {_LONGEST} printable characters, no blank around them"
        )
