"""``outgate.toml`` as frozen, typed values; whatever is not understood stops the start."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.model import Limits, Timeouts, Upstream
from proxy.params import STEERING
from proxy.policy import PolicyTable
from proxy.secret import Secret


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[access]``: whether a call without a known key is served at all, and under which name."""

    anonymous: str | None = None


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
    pass_headers: tuple[str, ...] = ()
    reply_headers: tuple[str, ...] = ()

    def upstream(self, name: str, base_url: str) -> Upstream:
        """The upstream this entry stands for."""
        fields = {key: getattr(self, key) for key in self.__struct_fields__}
        return Upstream(**{**fields, "name": name, "base_url": base_url.rstrip("/")})


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[routes]]``: the first whose globs fit says which upstreams are tried, in order."""

    upstreams: tuple[str, ...]
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)


class When(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``when``: globs; every list that is given must fit, one entry of each is enough."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()


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


class Loaded(Struct, frozen=True):
    """A configuration together with the text it came from."""

    config: Config
    document: Mapping[str, Any]
    path: str

    def digest(self, *versions: str) -> str:
        """SHA-256 over the document (secrets by their source only) and the versions that give it meaning."""
        text = json.dumps([self.document, *versions], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: str | Path) -> Loaded:
    """Read and check a configuration file.

    Raises ``ConfigError`` naming key, value, nearest known name and remedy.
    """
    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Name a readable file with --config or OUTGATE_CONFIG."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse(document, str(path))


def parse(document: Mapping[str, Any], path: str = "outgate.toml") -> Loaded:
    """Check a configuration that was read already; raises ``ConfigError``."""
    # One by one first: a message about a table of tables cannot name the upstream otherwise.
    for name, entry in _table(document, "upstreams").items():
        convert(entry, UpstreamEntry, where=f"{path}: upstreams.{name}")
    config = convert(document, Config, where=path)
    _check_routes(config, path)
    _check_names(config, path)
    return Loaded(config, document, path)


def _check_routes(config: Config, path: str) -> None:
    for number, route in enumerate(config.routes):
        where = f"{path}: routes[{number}].upstreams"
        if not route.upstreams:
            raise ConfigError(f"{where} is empty: name at least one of {_listed(config.upstreams)}")
        for name in route.upstreams:
            if name not in config.upstreams:
                raise ConfigError(
                    f"{where}: no upstream {name!r}.{nearest(name, config.upstreams)}"
                    f" Configured: {_listed(config.upstreams)}"
                )


def _check_names(config: Config, path: str) -> None:
    seen: set[str] = set()
    for number, entry in enumerate(config.plugins):
        if entry.label in seen:
            raise ConfigError(
                f"{path}: plugins[{number}]: the name {entry.label!r} is taken."
                ' Give each entry of the same plugin its own name = "…"'
            )
        seen.add(entry.label)


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key, {})
    return value if isinstance(value, dict) else {}


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none: add [upstreams.NAME]"
