"""Makes the Flask application from a configuration."""

import logging
import os
import sys
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Final

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface

from proxy import wire
from proxy.blueprint import KEY, Direct, blueprint, install_errors
from proxy.bridge.crossing import must_cross
from proxy.config import CONFIG_VARIABLE, DEFAULT_CONFIG, IN_USE_VARIABLE, Config, Loaded, load
from proxy.convert import Given
from proxy.deployment import Deployment
from proxy.errors import ConfigError, nearest
from proxy.model import STREAMED, Provider, Upstream
from proxy.origins import check_owner
from proxy.parts import Parts
from proxy.pipeline import Pipeline
from proxy.placeholders import fill, settled
from proxy.policy import Policy, kinds_and_groups
from proxy.prices import Prices
from proxy.registry import Registry
from proxy.rehearsal.beside import announced, shadow_of
from proxy.rules import check_kinds
from proxy.store import Store
from proxy.teams import Teams

log: Final = logging.getLogger("outgate")
_SESSION: Final = NullSession()


def create_app(loaded: Loaded) -> Flask:
    """The application for a configuration; raises ``ConfigError`` when anything about it will not do."""
    registry, parts = assemble(loaded)
    app = application(registry, parts)
    app.extensions[KEY].start()
    for line in announcements(app.extensions[KEY].parts):
        log.info(line)
    return app


def application(registry: Registry, parts: Parts) -> Flask:
    """The application for parts that were assembled already; no socket is opened. Raises ``ConfigError``."""
    app = _Application("outgate", static_folder=None)
    # No redirect ever sends a caller, with its credentials, to another spelling of a path.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.session_interface = _NoSessions()
    app.extensions[KEY] = Pipeline(parts)
    app.register_blueprint(blueprint)
    install_errors(app)
    _install_console(app, parts)
    app.wsgi_app = Direct(app)  # type: ignore[method-assign]
    registry.init_app(app)
    return app


class _Application(Flask):
    #: Whether a view is a coroutine is found out once, not with every call.
    ensure_sync = lru_cache(maxsize=256)(Flask.ensure_sync)


class _NoSessions(SessionInterface):
    """Calls come one by one: no cookie is read or set, nor is one looked for."""

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        return _SESSION

    def is_null_session(self, _obj: object) -> bool:
        return True


def _install_console(app: Flask, parts: Parts) -> None:
    config = parts.config
    if config.console is not None:
        from proxy.console.pages import install

        directory = config.audit.directory if config.audit is not None else None
        install(app, config.console, app.extensions[KEY], directory)


def assemble(loaded: Loaded) -> tuple[Registry, Parts]:
    """Load the plugins and check everything that one part of the configuration says of another."""
    check_owner()
    config = loaded.config
    store = Store(config.store) if config.store else None
    prices = Prices(config.prices, where=f"{loaded.path}: prices")
    deployment = Deployment()
    given: dict[type, Given] = {
        Store: partial(_needed, store, loaded.path),
        Prices: lambda: prices,
        Deployment: lambda: deployment,
    }
    registry = Registry(config.plugins, deadline=config.limits.hook_seconds, given=given)
    _check_identity(config, registry, loaded.path)
    check_kinds(config.policy, kinds_and_groups(registry.watches), loaded.path)
    policy = Policy(config.policy, registry.watches)
    upstreams = dict(_upstreams(loaded, registry.providers))
    _check_ways_out(config, registry, loaded.path)
    versions = [
        f"{plugin.entry.label} {plugin.origin} {plugin.version}" for plugin in registry.plugins
    ]
    digest = loaded.digest(version("outgate"), *versions)
    deployment.complete(digest, wire.passable(upstreams.values()))
    parts = Parts(
        config=config,
        digest=digest,
        chain=registry.chain,
        providers=registry.providers,
        upstreams=upstreams,
        policy=policy,
        teams=Teams(config.teams, where=loaded.path),
        store=store,
        prices=prices,
        shadow=shadow_of(loaded),
    )
    return registry, parts


def _needed(store: Store | None, path: str) -> Store:
    """The store that plugins are given; raises ``ConfigError`` where there is none."""
    if store is None:
        raise ConfigError(
            f'this plugin keeps its state in a store: add [store] with url = "sqlite:///outgate.db" to {path}'
        )
    return store


def app_from_environment() -> Flask:
    """The application for the file that ``OUTGATE_CONFIG`` names, ``outgate.toml`` by default.

    A configuration that will not do ends the process with status 4, on which gunicorn stops instead of
    starting the next worker into the same error.
    """
    _speak()
    try:
        path = os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG
        return create_app(load(path, copy=os.environ.get(IN_USE_VARIABLE)))
    except ConfigError as error:
        sys.stderr.write(f"outgate: {error}\n")
        raise SystemExit(4) from None


def _speak() -> None:
    """Have what the gateway says appear on standard error, unless the program around it set up logging."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        form = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S %z"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def announcements(parts: Parts) -> list[str]:
    """What an operator should read in the start-up log."""
    lines = [
        f"chain and policy {parts.digest[:16]}, {len(parts.upstreams)} upstreams",
        *(
            f"plugin {step.plugin} rewrites responses: streams it concerns are buffered to their end"
            for step in parts.chain.rewrite_response
            if step.scope is None
            or step.scope.endpoints is None
            or any(map(step.scope.endpoints.match, STREAMED))
        ),
    ]
    lines += [
        f"upstream {name}: completions go over the bridge, as chats"
        for name, upstream in parts.upstreams.items()
        if must_cross(upstream.bridge, parts.providers[upstream.provider].paths, "completions")
    ]
    lines += announced(parts.shadow)
    if parts.config.access.anonymous:
        lines.append(
            f"access.anonymous: calls without a key are served as {parts.config.access.anonymous!r}"
        )
    return lines


def _check_identity(config: Config, registry: Registry, path: str) -> None:
    if not registry.chain.identify and not config.access.anonymous:
        raise ConfigError(
            f"{path}: no plugin says who calls, so every call would be refused."
            ' Add [[plugins]] use = "static_keys", or [access] anonymous = "NAME" to serve anyone.'
        )


def _check_ways_out(config: Config, registry: Registry, path: str) -> None:
    if not config.routes and not registry.chain.choose_upstream:
        raise ConfigError(
            f"{path}: no route, so no call would reach an upstream. Add [[routes]] with"
            ' upstreams = ["NAME"].'
        )


def _upstreams(loaded: Loaded, providers: Mapping[str, Provider]) -> list[tuple[str, Upstream]]:
    config, path = loaded.config, loaded.path
    if not config.upstreams:
        raise ConfigError(f"{path}: no upstream. Add [upstreams.NAME] with provider and base_url.")
    found = []
    for name, entry in config.upstreams.items():
        where = f"{path}: upstreams.{name}"
        provider = providers.get(entry.provider)
        if provider is None:
            known = ", ".join(sorted(providers)) or "none"
            raise ConfigError(
                f"{where}.provider: no loaded plugin provides {entry.provider!r}.{nearest(entry.provider, providers)}"
                f" Provided: {known}. `outgate providers {entry.provider}` says which plugin brings it."
            )
        base_url = entry.base_url or provider.base_url
        if base_url is None:
            raise ConfigError(
                f'{where}.base_url is missing: write the address, e.g. base_url = "https://host/v1"'
            )
        settings = settled(provider, entry.settings, base_url, where)
        written = loaded.document["upstreams"][name].get("bridge", ())
        bridge = provider.bridge.overridden(entry.bridge, written)
        found.append(
            (name, entry.upstream(name, fill(base_url, settings), settings, bridge=bridge))
        )
    return found
