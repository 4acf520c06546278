"""``when``: which calls an entry of the configuration concerns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from msgspec import Struct

from proxy.chain import Scope
from proxy.errors import ConfigError, nearest
from proxy.model import Endpoint
from proxy.patterns import Globs

ENDPOINTS: Final[tuple[str, ...]] = get_args(Endpoint)


class When(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``when``: globs; every list that is given must fit, one entry of each is enough.

    ``models`` fits the name as the caller wrote it, and an upstream may take another spelling for the same
    model: a guardrail that no call may avoid has no ``models`` here.
    """

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()


def scope_of(when: When, endpoints: Iterable[str] = ()) -> Scope:
    """The compiled form of ``when``; a hook's own ``@only`` narrows the operator's endpoints further."""
    wanted = _globs(when.endpoints)
    if endpoints:
        wanted = Globs(name for name in endpoints if wanted is None or wanted.match(name))
    return Scope(_globs(when.principals), _globs(when.groups), _globs(when.models), wanted)


def _globs(patterns: Iterable[str]) -> Globs | None:
    return Globs(patterns) if patterns else None


def check_when(raw: Mapping[str, Any], where: str) -> None:
    """Raise ``ConfigError`` for lists that are empty, or fit no endpoint; ``raw`` is what was written."""
    # What was not given is empty too, so the text of the file says which one it is.
    for field, globs in raw.items():
        check_list(globs, f"{where}.{field}")
    check_endpoints(raw.get("endpoints", ()), f"{where}.endpoints")


def check_list(items: Sequence[str], where: str) -> None:
    """An empty list could mean nobody or everybody; an empty text fits nothing."""
    if not items:
        raise ConfigError(f"{where} is empty: name at least one, or remove it")
    if not all(items):
        raise ConfigError(f"{where} holds an empty text: remove it")


def check_endpoints(globs: Sequence[str], where: str) -> None:
    """Raise ``ConfigError`` for a glob that fits no endpoint."""
    for glob in globs:
        if not any(map(Globs([glob]).match, ENDPOINTS)):
            raise ConfigError(
                f"{where}: {glob!r} fits no endpoint.{nearest(glob, ENDPOINTS)}"
                f" There are: {', '.join(ENDPOINTS)}"
            )
