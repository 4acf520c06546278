"""Teams: who belongs to a team belongs to its parents, and may use what all of them may."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, get_args

from msgspec import Struct

from proxy.errors import ApiError, ConfigError, nearest
from proxy.frozen import FrozenDict
from proxy.model import Call, Endpoint
from proxy.patterns import Globs
from proxy.steps import Scope

ENDPOINTS: Final[tuple[str, ...]] = get_args(Endpoint)


class Team(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[teams.NAME]``: its parent, and globs of the models and endpoints its members may use; all, without."""

    parent: str | None = None
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)


class Teams:
    """The tree of teams; raises ``ConfigError`` for a parent that is unknown or its own descendant."""

    def __init__(
        self, teams: Mapping[str, Team] = FrozenDict(), *, where: str = "outgate.toml"
    ) -> None:
        for name, team in teams.items():
            _check(name, team, teams, f"{where}: teams.{name}")
        self._ways_up: Final = {name: tuple(_way_up(name, teams)) for name in teams}
        #: Some groups with the teams above those that are teams, the nearest first.
        self.closed: Final = lru_cache(maxsize=1024)(self._closed)
        self._scopes: Final = {
            name: Scope(models=Globs(team.models), endpoints=Globs(team.endpoints))
            for name, team in teams.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._scopes

    def _closed(self, groups: tuple[str, ...]) -> tuple[str, ...]:
        if not self._scopes:
            return groups
        ways = (self._ways_up.get(group, (group,)) for group in groups)
        return tuple(dict.fromkeys(name for way in ways for name in way))

    def check(self, call: Call) -> None:
        """Raise ``ApiError`` 403 where one of the caller's teams may not do what the call asks for."""
        for name in call.principal.groups if self._scopes else ():
            scope = self._scopes.get(name)
            if scope is None:
                continue
            if not Scope(endpoints=scope.endpoints).covers_call(call):
                raise _forbidden(
                    f"{call.endpoint} is not open to the team {name!r}", "endpoint_not_allowed"
                )
            # The list of models names none.
            if call.endpoint != "models" and not Scope(models=scope.models).covers_call(call):
                what = f"The model {(call.model or '')[:128]!r} is not open to the team {name!r}"
                raise _forbidden(what, "model_not_allowed", "model")


def _way_up(name: str, teams: Mapping[str, Team]) -> Iterator[str]:
    current: str | None = name
    while current is not None:
        yield current
        current = teams[current].parent


def _check(name: str, team: Team, teams: Mapping[str, Team], where: str) -> None:
    if not name.strip():
        raise ConfigError(f"{where}: a team needs a name")
    for field in ("models", "endpoints"):
        globs: Sequence[str] = getattr(team, field)
        if not globs or not all(globs):
            raise ConfigError(f"{where}.{field} is empty or holds an empty text: name what is open")
    _check_endpoints(team, where)
    _check_parents(name, team, teams, where)


def _check_endpoints(team: Team, where: str) -> None:
    for glob in team.endpoints:
        if not any(map(Globs([glob]).match, ENDPOINTS)):
            raise ConfigError(
                f"{where}.endpoints: {glob!r} fits no endpoint.{nearest(glob, ENDPOINTS)}"
                f" There are: {', '.join(ENDPOINTS)}"
            )


def _check_parents(name: str, team: Team, teams: Mapping[str, Team], where: str) -> None:
    seen = [name]
    parent = team.parent
    while parent is not None:
        if parent not in teams:
            raise ConfigError(
                f"{where}.parent: no team {parent!r}.{nearest(parent, teams)}"
                f" Teams: {', '.join(sorted(teams))}"
            )
        if parent in seen:
            raise ConfigError(
                f"{where}.parent: {' → '.join([*seen, parent])} never ends: a team is not above itself"
            )
        seen.append(parent)
        parent = teams[parent].parent


def _forbidden(what: str, code: str, param: str | None = None) -> ApiError:
    return ApiError(
        f"{what}: use another, or ask the operator of this gateway.",
        status=403, type="invalid_request_error", code=code, param=param,
    )  # fmt: skip
