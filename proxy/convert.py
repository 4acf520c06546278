"""TOML values to frozen typed ones, with errors that name the key, the value, the nearest name and the way out."""

import dataclasses
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from proxy.errors import ConfigError, nearest
from proxy.secret import Secret

T = TypeVar("T")

_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_SECRETIVE = re.compile(r"key|credential|secret|token|password|pepper|proxy", re.IGNORECASE)
_HOW = 'write { env = "NAME" } or { file = "/path" }; a secret never stands in the configuration itself'
_SHORTEST_SECRET = 8


def convert(value: Any, wanted: type[T], *, where: str) -> T:
    """``value`` as ``wanted`` (a msgspec Struct, a dataclass, or a plain type).

    ``where`` begins every message. Raises ``ConfigError``.
    """
    for path, key, known in _unknown(value, wanted, ""):
        raise ConfigError(
            f"{where}: unknown key {path + key!r} = {_shown(path + key, value, path + key)}."
            f"{nearest(key, known)} Known here: {', '.join(sorted(known))}"
        )
    if dataclasses.is_dataclass(wanted):
        return cast(T, _made(value, wanted, where))
    return cast(T, _converted(value, wanted, where, ""))


def _made(value: Any, wanted: Any, where: str) -> Any:
    """A dataclass by its own constructor: msgspec would ask for the fields that it fills itself."""
    fields = _fields(wanted) or {}
    required = [
        field.name
        for field in dataclasses.fields(wanted)
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in value:
            raise ConfigError(f"{where}: {name!r} is missing. Known here: {', '.join(fields)}")
    return wanted(
        **{name: _converted(item, fields[name], where, name) for name, item in value.items()}
    )


def _converted(value: Any, wanted: Any, where: str, name: str) -> Any:
    try:
        return msgspec.convert(value, wanted, dec_hook=_special, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), value, name)}") from None


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
            os.environ.get(name), f"the environment variable {name!r}", f"export {name}=…"
        )
    if kind == "file":
        return _long_enough(
            _text_of(name), f"the file {name!r}", "put the secret there, readable by this user"
        )
    raise ValueError(f"unknown source {kind!r}: {_HOW}")


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _long_enough(text: str | None, source: str, remedy: str) -> Secret:
    if text is None:
        raise ValueError(f"{source} is not set or cannot be read: {remedy}")
    if len(text) < _SHORTEST_SECRET:
        raise ValueError(f"{source} holds fewer than {_SHORTEST_SECRET} characters: {remedy}")
    return Secret(text)


def _explain(message: str, value: Any, name: str) -> str:
    found = _AT.match(message)
    assert found is not None  # noqa: S101 - the pattern matches every text
    path = (found["path"] or "").lstrip(".")
    what = found["what"].replace("`", "")
    full = name + ("." if name and path and path[0] != "[" else "") + path
    if not full:
        return what
    shown = f" = {_shown(path, value, full)}" if what.startswith("Expected") else ""
    return f"{full}{shown}: {what}"


def _shown(path: str, value: Any, full: str) -> str:
    if _SECRETIVE.search(full):
        return "(not shown)"
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return "…"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004


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
    if issubclass(wanted, msgspec.Struct):
        names = wanted.__struct_encode_fields__
    elif dataclasses.is_dataclass(wanted):
        names = tuple(field.name for field in dataclasses.fields(wanted) if field.init)
    else:
        return None
    hints = typing.get_type_hints(wanted)
    return {name: hints[name] for name in names}
