"""TOML values to frozen typed ones, with errors that name the key, the value, the nearest name and the way out."""

import dataclasses
import os
import re
import secrets
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec

from proxy.deployment import Deployment
from proxy.errors import ConfigError, nearest
from proxy.prices import Prices
from proxy.secret import Secret
from proxy.store import Store

T = TypeVar("T")
Given: TypeAlias = Callable[[], Any]
NOTHING: Final[Mapping[type, Given]] = MappingProxyType({})
#: What an options class is given, where it has a field of that type.
GIVEN: Final[frozenset[type]] = frozenset({Store, Prices, Deployment})

_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_SECRETIVE = re.compile(
    r"key|credential|secret|token|passw|pepper|proxy|auth|bearer|header", re.IGNORECASE
)
#: A run of letters and digits that no name of a model, host or file has: it may be a secret in the wrong place.
_LIKE_A_SECRET = re.compile(
    r"(?=[\w+=-]*[0-9])(?=[\w+=-]*[A-Za-z])[\w+=-]{16,}|\b(?:sk|pk|rk|og|gh[opsu]|gsk|xai|hf)[-_][\w-]{8,}"
)
_HOW = 'write { env = "NAME" } or { file = "/path" }; a secret never stands in the configuration itself'
_SHORTEST_SECRET = 8
_LONGEST_SHOWN = 60


#: Whether a secret that is not there is made up, so that a configuration can be judged by where nothing is sent.
_made_up: Final = ContextVar("made_up", default=False)


@contextmanager
def secrets_made_up() -> Iterator[None]:
    """Within the block a secret whose source is absent is a random text instead of an error."""
    before = _made_up.set(True)
    try:
        yield
    finally:
        _made_up.reset(before)


def convert(value: Any, wanted: type[T], *, where: str, given: Mapping[type, Given] = NOTHING) -> T:
    """``value`` as ``wanted`` (a msgspec Struct, a dataclass, or a plain type).

    ``where`` begins every message. ``given`` makes what a dataclass may ask for by the type of a field, and
    nobody can write in TOML; it may say that it cannot. Raises ``ConfigError``.
    """
    for path, key, known in _unknown(value, wanted, ""):
        meant = nearest(key, known)
        # A misspelt credential is a credential.
        shown = _shown(path + key, value, path + key + meant)
        raise ConfigError(
            f"{where}: unknown key {path + key!r} = {shown}."
            f"{meant} Known here: {', '.join(sorted(known)) or 'nothing'}"
        )
    if dataclasses.is_dataclass(wanted):
        return cast(T, _made(value, wanted, where, given))
    return cast(T, _converted(value, wanted, where, ""))


def _made(value: Any, wanted: Any, where: str, given: Mapping[type, Given]) -> Any:
    """A dataclass by its own constructor: msgspec would ask for the fields that it fills itself."""
    fields = _fields(wanted) or {}
    required = [
        field.name
        for field in dataclasses.fields(wanted)
        if field.name in fields and field.default is field.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in value:
            raise ConfigError(f"{where}: {name!r} is missing. Known here: {', '.join(fields)}")
    made = {name: _converted(item, fields[name], where, name) for name, item in value.items()}
    hints = typing.get_type_hints(wanted)
    asked = {f.name: hints[f.name] for f in dataclasses.fields(wanted) if f.init}
    try:
        made |= {name: given[kind]() for name, kind in asked.items() if kind in given}
        return wanted(**made)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _converted(value: Any, wanted: Any, where: str, name: str) -> Any:
    try:
        return msgspec.convert(value, wanted, dec_hook=_special, strict=True)
    except ConfigError as error:
        raise ConfigError(f"{where}: {name + ': ' if name else ''}{error}") from None
    except msgspec.ValidationError as error:
        wanted = _meant(value, wanted)
        for part, kind, path in _parts(value, wanted, name):
            _converted(part, kind, where, path)  # names the part, if it is one that is wrong
        raise ConfigError(f"{where}: {_explain(str(error), value, wanted, name)}") from None


def _meant(value: Any, wanted: Any) -> Any:
    """Of several types, the one for a value of this kind: an error is told in its words."""
    if typing.get_origin(wanted) not in (typing.Union, types.UnionType):
        return wanted
    fields = isinstance(value, Mapping)
    fitting = [kind for kind in typing.get_args(wanted) if (_fields(kind) is not None) == fields]
    return fitting[0] if fitting else wanted


def _parts(value: Any, wanted: Any, name: str) -> Iterator[tuple[Any, Any, str]]:
    """The members of a table and the items of a list: (value, type, path)."""
    fields = _fields(wanted)
    kinds = typing.get_args(wanted)
    if isinstance(value, Mapping):
        dot = f"{name}." if name else ""
        for key, item in value.items():
            if fields is not None:
                yield item, fields[key], f"{dot}{key}"
            elif typing.get_origin(wanted) is dict:
                yield item, kinds[1], f"{dot}{key}"
    elif isinstance(value, list) and typing.get_origin(wanted) in (list, tuple):
        for number, item in enumerate(value):
            yield item, kinds[0], f"{name}[{number}]"


def is_secretive(name: str) -> bool:
    """Whether a setting of this name may hold a secret, so that its value is not shown."""
    return _SECRETIVE.search(name) is not None


def secret_source(value: Any) -> str:
    """Where a configured secret comes from, for people to read: ``env NAME`` or ``file PATH``."""
    return (
        " ".join(f"{kind} {name}" for kind, name in value.items())
        if isinstance(value, dict)
        else "given"
    )


def _special(wanted: type, value: Any) -> Any:
    if wanted is Secret:
        return value if isinstance(value, Secret) else _read_secret(value)
    raise ValueError(f"Outgate cannot read a {wanted.__name__} from TOML")


def _read_secret(value: Any) -> Secret:
    if (
        not isinstance(value, dict)
        or len(value) != 1
        or not isinstance(next(iter(value.values())), str)
    ):
        raise ValueError(_HOW)
    kind, name = next(iter(value.items()))
    if kind == "env":
        return _long_enough(
            os.environ.get(name),
            f"the environment variable {name!r}",
            "is not set",
            f"export {name}=…",
        )
    if kind == "file":
        remedy = "put the secret there, readable by this user"
        return _long_enough(_text_of(name), f"the file {name!r}", "cannot be read", remedy)
    raise ValueError(f"unknown source {kind!r}: {_HOW}")


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _long_enough(text: str | None, source: str, missing: str, remedy: str) -> Secret:
    if (text is None or len(text) < _SHORTEST_SECRET) and _made_up.get():
        return Secret(secrets.token_hex(32))
    if text is None:
        raise ValueError(f"{source} {missing}: {remedy}")
    if len(text) < _SHORTEST_SECRET:
        raise ValueError(f"{source} holds fewer than {_SHORTEST_SECRET} characters: {remedy}")
    return Secret(text)


def _explain(message: str, value: Any, wanted: Any, name: str) -> str:
    found = _AT.match(message)
    assert found is not None  # noqa: S101 - the pattern matches every text
    what = found["what"].replace("`", "")
    if typing.get_origin(wanted) is Literal:
        choices = typing.get_args(wanted)
        what = f"write one of {', '.join(map(repr, choices))}.{nearest(str(value), choices)}"
    elif not what.startswith("Expected"):
        return f"{name}: {what}" if name else what
    return f"{name} = {_shown('', value, name)}: {what}" if name else what


def _shown(path: str, value: Any, full: str) -> str:
    if is_secretive(full):
        return "(not shown)"
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return "…"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(value)
    if _LIKE_A_SECRET.search(text):
        return "(not shown)"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "…"


def _unknown(value: Any, wanted: Any, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """Every key of ``value`` that ``wanted`` has no field for: (path before it, key, known fields)."""
    fields = _fields(wanted)
    if fields is not None and isinstance(value, Mapping):
        for key, item in value.items():
            if key not in fields:
                yield path, str(key), list(fields)
            else:
                yield from _unknown(item, fields[key], f"{path}{key}.")
        return
    for inner in typing.get_args(wanted):
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from _unknown(item, inner, f"{path[:-1]}[{number}].")
        elif isinstance(value, Mapping):
            yield from _unknown_inside(value, wanted, inner, path)


def _unknown_inside(
    value: Mapping[str, Any], wanted: Any, inner: Any, path: str
) -> Iterator[tuple[str, str, list[str]]]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        yield from _unknown(value, inner, path)
        return
    for key, item in value.items():
        yield from _unknown(item, inner, f"{path}{key}.")


def _fields(wanted: Any) -> dict[str, Any] | None:
    if not isinstance(wanted, type):
        return None
    hints = typing.get_type_hints(wanted)
    if issubclass(wanted, msgspec.Struct):
        written = zip(wanted.__struct_encode_fields__, wanted.__struct_fields__, strict=True)
        return {name: hints[field] for name, field in written}
    if dataclasses.is_dataclass(wanted):
        names = tuple(
            field.name
            for field in dataclasses.fields(wanted)
            if field.init and hints[field.name] not in GIVEN
        )
    else:
        return None
    return {name: hints[name] for name in names}
