"""JSON that every reader takes the same way: what our checks saw is what the upstream will read."""

import codecs
import json
from json import JSONDecodeError
from math import isfinite
from typing import Any, Final, NoReturn

from proxy.errors import InvalidRequest
from proxy.frozen import FrozenDict, FrozenList

_WIDE_BOMS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**64 - 1
_LONGEST: Final = 20  # characters of the two
_ALWAYS_SAFE: Final = 18  # characters any 64-bit integer may have
_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def decode(data: bytes, *, depth: int) -> Any:
    """The value of one JSON text (RFC 8259), deep-frozen.

    Stricter than the RFC asks where readers differ: UTF-8 without a byte order mark, no name twice
    in an object, integers within 64 bits (kept exactly), numbers within a double, no lone
    surrogates, at most ``depth`` levels. Raises ``InvalidRequest``.
    """
    text = _text(data)
    if data.count(b"[") + data.count(b"{") > depth:
        _check_depth(data, depth)
    try:
        value = _DECODER.decode(text)
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        what = error.msg.removesuffix(" at").removesuffix(" starting")
        _refuse(f"it is not valid JSON ({what} at {where})", "correct it there")
    except RecursionError:
        _refuse_depth(depth)
    if type(value) is list:
        value = _array(value)
    # Only an escape can bring in half a surrogate pair; and what encodes has none.
    if b"\\ud" in data or b"\\uD" in data:
        _check_surrogates(value)
    return value


def encode(value: Any) -> bytes:
    """``value`` as compact UTF-8 JSON; integers exact, floats so that they read back the same.

    Raises ``ValueError`` for what JSON cannot say (NaN, infinity, lone surrogates) and
    ``TypeError`` for what it does not know, such as a ``Secret``.
    """
    return _ENCODER.encode(value).encode()


def _text(data: bytes) -> str:
    if data.startswith(codecs.BOM_UTF8):
        _refuse("it begins with a byte order mark", "leave out the bytes EF BB BF")
    if data.startswith(_WIDE_BOMS) or b"\0" in data[:4]:
        _refuse("it is UTF-16 or UTF-32", "encode it as UTF-8")
    if not data:
        _refuse("it is empty", "send a JSON object")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        _refuse(f"byte {error.start} is not valid UTF-8", "encode it as UTF-8")


def _check_depth(data: bytes, depth: int) -> None:
    """Take away the innermost brackets ``depth`` times: what is left was nested deeper.

    That is many short steps in C where a scan of the text would be one long one in Python.
    """
    # Without escaped quotes every second part is a string, and its brackets do not count.
    outside = data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    left = b"".join(outside).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(depth):
        shorter = left.replace(b"[]", b"")
        if len(shorter) == len(left):
            break
        left = shorter
    if left:
        _refuse_depth(depth)


def _refuse_depth(depth: int) -> NoReturn:
    _refuse(
        f"it is nested deeper than {depth} levels, or its brackets do not match",
        "send it flatter, and close every bracket",
    )


def _check_surrogates(value: Any) -> None:
    try:
        encode(value)
    except UnicodeEncodeError:
        _refuse(
            "an escape such as \\ud800 stands for half a character",
            "write characters above U+FFFF as a pair of escapes, or directly in UTF-8",
        )


def _object(pairs: list[tuple[str, Any]]) -> FrozenDict:
    members = FrozenDict(pairs)
    if len(members) != len(pairs):
        _refuse("an object in it has the same name twice", "keep one of the two")
    for value in members.values():
        if type(value) is list:
            return FrozenDict(
                [(name, _array(item) if type(item) is list else item) for name, item in pairs]
            )
    return members


def _array(items: list[Any]) -> FrozenList:
    return FrozenList([_array(item) if type(item) is list else item for item in items])


def _integer(digits: str) -> int:
    if len(digits) <= _ALWAYS_SAFE:
        return int(digits)
    if len(digits) > _LONGEST or not _LOWEST <= (number := int(digits)) <= _HIGHEST:
        _refuse("an integer in it does not fit into 64 bits", "send such a number as a string")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        _refuse("a number in it is larger than a double can hold", "keep it below 1.8e308")
    return number


def _constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON", "send null or leave the parameter out")


def _refuse(reason: str, remedy: str) -> NoReturn:
    raise InvalidRequest(f"The request body cannot be read: {reason}. Please {remedy}.")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
