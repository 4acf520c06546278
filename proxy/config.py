"""``outgate.toml`` as frozen, typed values; whatever is not understood stops the start."""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from proxy.audit.table import AuditTable
from proxy.audit.table import check as check_audit
from proxy.bridge.settings import Bridge
from proxy.console.table import ConsoleTable
from proxy.convert import convert
from proxy.errors import ConfigError
from proxy.frozen import FrozenDict
from proxy.metering import Metering
from proxy.model import Breaker, Limits, Timeouts, Upstream
from proxy.params import STEERING
from proxy.prices import PriceEntry
from proxy.rehearsal.table import ShadowTable
from proxy.routing.table import Route, check_routes
from proxy.rules import PolicyTable, check_policy
from proxy.scopes import When, check_when
from proxy.secret import Secret
from proxy.store.table import StoreTable
from proxy.teams import Team
from proxy.tokens import TokenizerEntry

CONFIG_VARIABLE: Final = "OUTGATE_CONFIG"
DEFAULT_CONFIG: Final = "outgate.toml"
#: Set by gunicorn's main process for its workers: the copy of the file that is in force.
IN_USE_VARIABLE: Final = "OUTGATE_CONFIG_IN_USE"
#: Set there too: a directory that this main process and its workers share, gone when it ends.
RUN_VARIABLE: Final = "OUTGATE_RUN_DIRECTORY"


_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: Headers that carry credentials, or that mean something to one connection only (RFC 9110 section 7.6.1).
_RESERVED: Final = frozenset(
    [
        "accept-encoding",
        "api-key",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
        "x-portkey-api-key",
    ]
)


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[access]``: whether a call without a known key is served, and whose word on the caller's address counts."""

    anonymous: str | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[parameters]``: what a body may hold beyond the documented parameters."""

    unknown: Literal["allow", "refuse"] = "allow"
    unscannable: Literal["refuse", "allow"] = "refuse"
    refused: tuple[str, ...] = tuple(sorted(STEERING))


class UpstreamEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[upstreams.NAME]`` as it is written; the provider may supply the base URL."""

    provider: str
    base_url: str | None = None
    credential: Secret | None = None
    allow_private: bool = False
    timeouts: Timeouts = Timeouts()
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    outbound_proxy: Secret | None = None
    pass_caller_credential: bool = False
    strict: bool = False
    trace: bool = False
    pass_headers: tuple[str, ...] = ()
    reply_headers: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    bridge: Bridge = Bridge()
    breaker: Breaker | None = None

    def upstream(
        self, name: str, base_url: str, settings: Mapping[str, str] = FrozenDict(), **more: Any
    ) -> Upstream:
        """The upstream this entry stands for; what its provider has to do with it is decided elsewhere."""
        fields = {key: getattr(self, key) for key in self.__struct_fields__}
        fields |= {"name": name, "base_url": base_url.rstrip("/"), "settings": settings, **more}
        return Upstream(**fields)


class PluginEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[plugins]]``: one plugin, its place in the order, and what the operator says of it."""

    use: str
    name: str = ""
    when: When = When()
    mode: Literal["enforce", "monitor"] = "enforce"
    on_error: Literal["deny", "allow"] = "deny"
    required: bool = False
    deadline: float | None = None
    options: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The name in logs and records: ``name``, or the entry point's."""
        return self.name or self.use


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``outgate.toml``."""

    upstreams: dict[str, UpstreamEntry] = {}
    routes: tuple[Route, ...] = ()
    plugins: tuple[PluginEntry, ...] = ()
    limits: Limits = Limits()
    access: Access = Access()
    parameters: Parameters = Parameters()
    policy: PolicyTable = PolicyTable()
    tokenizers: tuple[TokenizerEntry, ...] = ()
    store: StoreTable | None = None
    teams: dict[str, Team] = {}
    prices: tuple[PriceEntry, ...] = ()
    metering: Metering = Metering()
    audit: AuditTable | None = None
    console: ConsoleTable | None = None
    shadow: ShadowTable | None = None


class Loaded(Struct, frozen=True):
    """A configuration together with the text it came from."""

    config: Config
    document: Mapping[str, Any]
    path: str

    def digest(self, *versions: str) -> str:
        """SHA-256 over the document (secrets by their source only) and the versions that give it meaning."""
        text = json.dumps([self.document, *versions], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: str | Path, *, copy: str | None = None) -> Loaded:
    """Read and check a configuration file; its text is taken from ``copy`` if there is one.

    Raises ``ConfigError`` naming key, value, nearest known name and remedy.
    """
    return parse(read(path, copy=copy), str(path))


def read(path: str | Path, *, copy: str | None = None) -> dict[str, Any]:
    """A configuration file as it is written; raises ``ConfigError`` when it cannot be read."""
    try:
        return tomllib.loads(Path(copy or path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Name a readable file with --config or OUTGATE_CONFIG,"
            " or write a first one: outgate init"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def parse(document: Mapping[str, Any], path: str = "outgate.toml") -> Loaded:
    """Check a configuration that was read already; raises ``ConfigError``."""
    # One by one first: a message about a table of tables cannot name the upstream otherwise.
    for name, entry in _table(document, "upstreams").items():
        convert(entry, UpstreamEntry, where=f"{path}: upstreams.{name}")
    if "audit" in document:
        convert(document["audit"], AuditTable, where=f"{path}: audit")
    config = convert(document, Config, where=path)
    _check_upstreams(config, path)
    steering = config.parameters.refused
    routes = document.get("routes", ())
    check_routes(config.routes, routes, config.upstreams, steering, f"{path}: routes")
    _check_plugins(config, document, path)
    _check_numbers(config.limits, f"{path}: limits")
    check_policy(config.policy, document, path)
    if config.policy.conversation:
        _check_header(config.policy.conversation.header, f"{path}: policy.conversation.header")
    if config.audit is not None:
        check_audit(config.audit, f"{path}: audit")
    return Loaded(config, document, path)


def _check_upstreams(config: Config, path: str) -> None:
    for name, entry in config.upstreams.items():
        if not name.strip():
            raise ConfigError(f"{path}: upstreams.{name!r}: an upstream needs a name")
        _check_numbers(entry.timeouts, f"{path}: upstreams.{name}.timeouts")
        for field in ("pass_headers", "reply_headers"):
            for header in getattr(entry, field):
                _check_header(header, f"{path}: upstreams.{name}.{field}")


def _check_header(name: str, where: str) -> None:
    if not _HEADER.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is not the name of a header")
    if name.lower() in _RESERVED:
        raise ConfigError(
            f"{where}: {name!r} is not passed on: it carries a credential or belongs to one connection."
            " Remove it."
        )


def _check_plugins(config: Config, document: Mapping[str, Any], path: str) -> None:
    seen: set[str] = set()
    for number, entry in enumerate(config.plugins):
        where = f"{path}: plugins[{number}]"
        if entry.label in seen:
            raise ConfigError(
                f"{where}: the name {entry.label!r} is taken."
                ' Give each entry of the same plugin its own name = "…"'
            )
        seen.add(entry.label)
        check_when(document["plugins"][number].get("when", {}), f"{where}.when")
        if entry.deadline is not None:
            _check_number(entry.deadline, f"{where}.deadline")


def _check_numbers(table: Struct, where: str) -> None:
    for field in table.__struct_fields__:
        _check_number(getattr(table, field), f"{where}.{field}")


def _check_number(value: float | None, where: str) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{where} = {value!r}: write a number above zero")


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key, {})
    return value if isinstance(value, dict) else {}
