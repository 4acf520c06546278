"""``[[routes]]``: which upstreams are tried for a call, when no plugin chooses."""

from collections.abc import Iterable

from proxy.config import Route
from proxy.model import Call, Choice
from proxy.patterns import Globs
from proxy.records import Failure


class Routes:
    """The compiled routes; the first that fits decides."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [
            (Globs(route.models), Globs(route.endpoints), route.upstreams) for route in routes
        ]

    def choose(self, call: Call, failures: tuple[Failure, ...]) -> Choice | None:
        """The next upstream for ``call``, or None: no route fits, or all of its upstreams failed.

        ``GET /v1/models`` names no model: the first route for that endpoint answers it.
        """
        tried = {failure.upstream for failure in failures}
        for models, endpoints, upstreams in self._routes:
            if endpoints.match(call.endpoint) and (
                call.endpoint == "models" or models.match(call.model or "")
            ):
                left = (name for name in upstreams if name not in tried)
                name = next(left, None)
                return None if name is None else Choice(upstream=name)
        return None
