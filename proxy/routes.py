"""``[[routes]]`` at work: the first route that fits a call walks its tree, when no plugin chooses."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from proxy.model import BODILESS, Call, Choice
from proxy.patterns import Globs
from proxy.records import Failure
from proxy.routing import Way, next_choice
from proxy.routing.table import Route, way_of
from proxy.scopes import scope_of
from proxy.steps import Scope

_KEY: Final = "key"  # the label of a principal that names its virtual key


class _Compiled(Struct, frozen=True):
    models: Globs
    endpoints: Globs
    scope: Scope
    when_models: Globs | None
    metadata: tuple[tuple[str, Globs], ...]
    way: Way
    bare: Way
    sticky: str | None

    def fits(self, call: Call) -> bool:
        """Whether the route is for ``call``; the list of models names none, so no glob for models is asked."""
        if not self.endpoints.match(call.endpoint) or not self.scope.covers_call(call):
            return False
        model = call.model or ""
        if call.endpoint != "models" and not (
            self.models.match(model) and (self.when_models is None or self.when_models.match(model))
        ):
            return False
        known = call.principal.metadata
        return all(name in known and globs.match(known[name]) for name, globs in self.metadata)

    def key(self, call: Call) -> str:
        """What the weighted choice depends on: the call itself, or what its caller's calls share."""
        principal = call.principal
        match self.sticky:
            case "key":
                return principal.metadata.get(_KEY, principal.name)
            case "principal":
                return principal.name
            case _:
                return call.id


class Routes:
    """The compiled routes; the first that fits decides."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [_compiled(route) for route in routes]

    def choose(self, call: Call, failures: tuple[Failure, ...]) -> Choice | None:
        """The next try of ``call``, or None: no route fits, or its tree has nothing left.

        ``GET /v1/models`` names no model: the first route for that endpoint answers it.
        """
        for route in self._routes:
            if route.fits(call):
                way = route.bare if call.endpoint in BODILESS else route.way
                return next_choice(way, route.key(call), failures, jitter=call.id)
        return None


def _compiled(route: Route) -> _Compiled:
    when = route.when
    scope = scope_of(when)
    return _Compiled(
        models=Globs(route.models),
        endpoints=Globs(route.endpoints),
        scope=Scope(scope.principals, scope.groups, None, scope.endpoints),
        when_models=scope.models,
        metadata=tuple((name, Globs(globs)) for name, globs in when.metadata.items()),
        way=way_of(route),
        bare=way_of(route, bodies=False),
        sticky=route.sticky,
    )
