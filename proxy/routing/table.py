"""``[[routes]]``: which calls a route is for, and the tree of targets it stands for."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal, cast

from msgspec import Struct, field

from proxy import params
from proxy.errors import ConfigError, InvalidRequest, nearest
from proxy.model import BODILESS, Endpoint
from proxy.patterns import Globs
from proxy.routing.faults import PASSING
from proxy.routing.ways import Balance, Fallback, Retry, Target, Way
from proxy.scopes import ENDPOINTS, When, check_endpoints, check_list, check_when

#: A body that every endpoint takes, to see whether it still does with what a target sets.
_WHOLE: Final[Mapping[str, Any]] = {"model": "m", "prompt": "", "messages": [], "input": ""}
_ALONE: Final = "it does nothing for one upstream: name another, or write retry = { attempts = 3 }"


class RouteWhen(When, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``when`` of a route: that of a plugin, and globs for what is known of the principal."""

    metadata: dict[str, tuple[str, ...]] = field(default_factory=dict)


class TargetEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``upstreams`` as a table: how this upstream is asked."""

    upstream: str
    weight: float | None = None
    model: str | None = None
    timeout: float | None = None
    body: dict[str, Any] = {}


class RetryTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``retry``: how often each upstream is tried, and for what."""

    attempts: int = 3
    on: tuple[int, ...] = tuple(sorted(PASSING))
    base: float = 0.5
    most: float = 8.0
    patience: float = 60.0


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[routes]]``: the first that fits a call says which upstreams are tried, and how."""

    upstreams: tuple[str | TargetEntry, ...]
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    when: RouteWhen = RouteWhen()
    strategy: Literal["fallback", "balance"] = "fallback"
    on: tuple[int, ...] = ()
    unanswered: bool = False
    retry: RetryTable | None = None
    sticky: Literal["principal", "key"] | None = None

    @property
    def targets(self) -> tuple[TargetEntry, ...]:
        """The upstreams, all as tables."""
        return tuple(
            TargetEntry(upstream=entry) if isinstance(entry, str) else entry
            for entry in self.upstreams
        )


def way_of(route: Route, *, bodies: bool = True) -> Way:
    """The tree of a route; without ``bodies`` for calls that have none. Raises ``ConfigError``."""
    retry = _retry_of(route)
    targets = [_target(entry, retry, bodies=bodies) for entry in route.targets]
    if len(targets) == 1:
        return targets[0]
    on = frozenset(route.on)
    if route.strategy == "fallback":
        return Fallback(tuple(targets), on, route.unanswered)
    weights = [1.0 if entry.weight is None else entry.weight for entry in route.targets]
    ways = tuple(zip(weights, targets, strict=True))
    return Balance(ways, on=on, unanswered=route.unanswered)


def _retry_of(route: Route) -> Retry:
    table = route.retry
    if table is None:
        return Retry()
    on = frozenset(table.on)
    return Retry(table.attempts, on, route.unanswered, table.base, table.most, table.patience)


def _target(entry: TargetEntry, retry: Retry, *, bodies: bool) -> Target:
    body = {**entry.body, **({} if entry.model is None else {"model": entry.model})}
    return Target(entry.upstream, body if bodies else {}, entry.timeout, retry)


def check_routes(
    routes: Iterable[Route],
    raw: Any,
    upstreams: Collection[str],
    steering: Collection[str],
    where: str,
) -> None:
    """Raise ``ConfigError`` for a route that could not do what it says; ``raw`` is what was written."""
    for number, route in enumerate(routes):
        here = f"{where}[{number}]"
        for name in ("upstreams", "models", "endpoints"):
            check_list(getattr(route, name), f"{here}.{name}")
        check_endpoints(route.endpoints, f"{here}.endpoints")
        _check_when(raw[number].get("when", {}), f"{here}.when")
        _check_names(route, upstreams, f"{here}.upstreams")
        _check_sense(route, raw[number], here)
        for place, entry in enumerate(route.targets):
            _check_target(route, entry, steering, f"{here}.upstreams[{place}]")
        try:
            way_of(route)
        except ConfigError as error:
            raise ConfigError(f"{here}: {error}") from None


def _check_when(raw: Mapping[str, Any], where: str) -> None:
    check_when({key: globs for key, globs in raw.items() if key != "metadata"}, where)
    for name, globs in raw.get("metadata", {}).items():
        check_list(globs, f"{where}.metadata.{name}")


def _check_names(route: Route, upstreams: Collection[str], where: str) -> None:
    for name in (entry.upstream for entry in route.targets):
        if name not in upstreams:
            raise ConfigError(
                f"{where}: no upstream {name!r}.{nearest(name, upstreams)}"
                f" Configured: {', '.join(sorted(upstreams)) or 'none: add [upstreams.NAME]'}"
            )


def _check_sense(route: Route, raw: Mapping[str, Any], where: str) -> None:
    """Refuse what would be read and do nothing."""
    alone, balanced = len(route.upstreams) == 1, route.strategy == "balance"
    if alone and route.on:
        raise ConfigError(f"{where}.on: {_ALONE}")
    if alone and "strategy" in raw:
        raise ConfigError(f"{where}.strategy: {_ALONE}")
    if alone and route.unanswered and route.retry is None:
        raise ConfigError(f"{where}.unanswered: {_ALONE}")
    if route.retry is not None and route.retry.attempts == 1:
        raise ConfigError(
            f"{where}.retry.attempts = 1 is one try, as without it: write 2 or more, or remove retry"
        )
    if route.sticky and not balanced:
        raise ConfigError(f'{where}.sticky: write strategy = "balance" beside it, or remove it')
    if not balanced and any(entry.weight is not None for entry in route.targets):
        raise ConfigError(
            f'{where}.upstreams: weights need strategy = "balance"; a fallback takes them in their order'
        )


def _check_target(route: Route, entry: TargetEntry, steering: Collection[str], where: str) -> None:
    if entry.model == "":
        raise ConfigError(f"{where}.model is empty: write the upstream's name for the model")
    if entry.model is not None and "model" in entry.body:
        raise ConfigError(f"{where}: model stands beside body.model: remove one of them")
    try:
        target = _target(entry, Retry(), bodies=True)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    served = Globs(route.endpoints)
    for endpoint in ENDPOINTS:
        if target.body and endpoint not in BODILESS and served.match(endpoint):
            _check_body(cast(Endpoint, endpoint), target.body, steering, where)


def _check_body(
    endpoint: Endpoint, body: Mapping[str, Any], steering: Collection[str], where: str
) -> None:
    try:
        params.check(endpoint, {**_WHOLE, **body}, steering=steering)
    except InvalidRequest as error:
        raise ConfigError(f"{where}.body, for {endpoint}: {error.message}") from None


def shown_upstreams(route: Route) -> str:
    """The upstreams of a route for people: in order, or with their shares."""
    total = sum(1.0 if entry.weight is None else entry.weight for entry in route.targets)
    return ", ".join(_shown(route, entry, total) for entry in route.targets)


def _shown(route: Route, entry: TargetEntry, total: float) -> str:
    named = entry.upstream if entry.model is None else f"{entry.upstream} as {entry.model}"
    if route.strategy == "fallback":
        return named
    weight = 1.0 if entry.weight is None else entry.weight
    return f"{named} {100 * weight / total:.3g} %"


def shown_when(route: Route) -> str:
    """The conditions of a route for people."""
    when = route.when
    lists = [(name, getattr(when, name)) for name in When.__struct_fields__]
    lists += [(f"metadata.{name}", globs) for name, globs in when.metadata.items()]
    return " and ".join(f"{name} {'|'.join(globs)}" for name, globs in lists if globs) or "always"
