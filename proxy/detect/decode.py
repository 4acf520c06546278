"""What a request may hide behind an encoding: bounded second readings of a text, mapped back to it.

For requests only: a stream is read as it is and folded, not decoded.
"""

import base64
import binascii
import codecs
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from proxy.detect.matcher import Matcher, Several

_AROUND: Final = 256  # characters read around what was decoded, for contexts
_LEAST: Final = 65_536  # characters of decoded text that are read at least
_TIMES: Final = 8  # and so many times the text, all readings together
_AUTOMATON: Final = 8 << 20  # bytes
_PRINTABLE: Final = 0.9  # share that makes decoded bytes a text


class Decoded(NamedTuple):
    """A part of a text in another reading.

    ``starts`` and ``ends`` give for each character where in the text it comes from; ``runs`` are the
    stretches that were decoded, in characters of this reading; ``how`` names the passes.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    runs: Sequence[tuple[int, int]]
    how: tuple[str, ...]

    def source(self, start: int, end: int) -> tuple[int, int] | None:
        """The span of the text behind a finding, or None when nothing of it was decoded."""
        place = bisect_right(self.runs, (end - 1, end)) - 1
        touches = any(
            run[0] < end and start < run[1] for run in self.runs[max(place - 1, 0) : place + 2]
        )
        return (self.starts[start], self.ends[end - 1]) if touches else None


class _Pass(NamedTuple):
    """``pattern`` finds runs, as its group where it looks around them; ``decode`` may say that one is none."""

    pattern: str
    decode: Callable[[str], str | None]


def decoded(text: str, passes: Collection[str] | None = None, depth: int = 2) -> Iterator[Decoded]:
    """The other readings of ``text``, by ``passes`` (names in ``PASSES``; ``USUAL``, when None).

    Each reading holds what was decoded and 256 characters around it. What was decoded is decoded again
    up to ``depth``. All readings together have at most eight times the text's length (64 Ki characters
    are always allowed): what would come after is not read.
    """
    chosen = tuple(name for name in PASSES if name in (USUAL if passes is None else passes))
    whole = Decoded(text, range(len(text)), range(1, len(text) + 1), (), ())
    budget = max(_LEAST, _TIMES * len(text))
    seen = {text}
    level = [whole]
    for _ in range(depth):
        found: list[Decoded] = []
        for reading in (new for known in level for new in _readings(known, chosen)):
            budget -= len(reading.text)
            if budget < 0:
                return
            if reading.text not in seen:
                seen.add(reading.text)
                found.append(reading)
                yield reading
        level = found


def _readings(known: Decoded, names: tuple[str, ...]) -> Iterator[Decoded]:
    # Of the same length in bytes as the text in characters; what is no ASCII matters to no pattern.
    shadow = known.text.encode("ascii", "replace")
    for index in sorted(_several(names).matching(shadow)):
        yield from _readings_by(known, names[index], shadow)


@cache
def _several(names: tuple[str, ...]) -> Several:
    """Which of these passes have something to decode."""
    return Several((PASSES[name].pattern for name in names), _AUTOMATON)


@cache
def _matcher(name: str) -> Matcher:
    return Matcher(PASSES[name].pattern)


def _readings_by(known: Decoded, name: str, shadow: bytes) -> Iterator[Decoded]:
    runs: list[tuple[int, int, str]] = []
    matcher, decode = _matcher(name), PASSES[name].decode
    spans = matcher.search(shadow, 0)
    while spans is not None:
        start, end = next((group for group in spans[1:] if group[0] >= 0), spans[0])
        plain = decode(known.text[start:end])
        if plain is not None:
            if runs and start - runs[-1][1] > 2 * _AROUND:
                yield _replaced(known, runs, name)
                runs = []
            runs.append((start, end, plain))
        spans = matcher.search(shadow, spans[0][1])
    if runs:
        yield _replaced(known, runs, name)


def _replaced(known: Decoded, runs: Sequence[tuple[int, int, str]], name: str) -> Decoded:
    """The surroundings of ``runs`` with each replaced by its plain text, which maps to the whole run."""
    at, stop = max(0, runs[0][0] - _AROUND), min(len(known.text), runs[-1][1] + _AROUND)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    places: list[tuple[int, int]] = []
    for start, end, plain in runs:
        parts += [known.text[at:start], plain]
        starts += known.starts[at:start]
        ends += known.ends[at:start]
        places.append((len(starts), len(starts) + len(plain)))
        starts += [known.starts[start]] * len(plain)
        ends += [known.ends[end - 1]] * len(plain)
        at = end
    starts += known.starts[at:stop]
    ends += known.ends[at:stop]
    parts.append(known.text[at:stop])
    return Decoded("".join(parts), starts, ends, places, (*known.how, name))


def _percent(run: str) -> str | None:
    return _text(bytes.fromhex(run.replace("%", "")))


def _entity(run: str) -> str | None:
    plain = html.unescape(run)
    return plain if plain != run and _readable(plain) else None


def _escape(run: str) -> str | None:
    units = [
        int(code, 16) for code in re.findall(r"[0-9A-Fa-f]{2,8}", re.sub(r"\\[uUx]", " ", run))
    ]
    if max(units) > 0xFFFF:  # noqa: PLR2004 - the largest UTF-16 unit
        return _readable("".join(chr(unit) for unit in units if unit <= 0x10FFFF))  # noqa: PLR2004
    if r"\x" in run:
        return _text(bytes(unit & 0xFF for unit in units))
    return _readable(
        b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be", "replace")
    )


def _base64(run: str) -> str | None:
    body = re.sub(r"\s", "", run).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    body = body[: len(body) - (len(body) % 4 == 1)]
    try:
        return _text(base64.b64decode(body + "=" * (-len(body) % 4), validate=True))
    except binascii.Error:  # pragma: no cover - the pattern lets nothing else through
        return None


def _hex(run: str) -> str | None:
    digits = re.sub(r"0[xX]|\\x|[^0-9A-Fa-f]", "", run)
    return _text(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _spaced(run: str) -> str | None:
    return run[::2]


def _tagged(run: str) -> str | None:
    """What tag characters (Unicode block E0000) spell out: nobody sees them, models read them."""
    plain = "".join(chr(ord(sign) - 0xE0000) for sign in re.findall("[\U000e0020-\U000e007e]", run))
    return _readable(plain)


def _unquoted(_: str) -> str:
    return ""  # what stands around becomes one


def _spoken(run: str) -> str | None:
    return {"at": "@", "dot": ".", "dash": "-", "underscore": "_"}.get(
        run.strip(" \t[](){}<>").lower()
    )


def _text(data: bytes) -> str | None:
    """Bytes as a text, if they are one."""
    if len(data) > 1 and data[1::2].count(0) > len(data) // 4:
        return _readable(data[: len(data) // 2 * 2].decode("utf-16-le", "replace"))
    try:
        return _readable(data.decode())
    except UnicodeDecodeError:
        return None


def _readable(plain: str) -> str | None:
    good = sum(char.isprintable() or char.isspace() for char in plain)
    return plain if plain and good >= _PRINTABLE * len(plain) else None


def _apart(sign: str) -> str:
    """The pattern of single characters with ``sign`` between them, and a boundary around."""
    between = r"[^\n]" if sign == " " else r"\S"
    return rf"""(?:^|[\s"'`=:(])(\S(?:{sign}{between}){{6,}})(?:[\s"'`),;]|$)"""


_WORDS: Final = r"[ \t]{0,2}(?:[\[({<](?i:at|dot|dash|underscore)[\])}>])[ \t]{0,2}"
_JOIN: Final = (
    r"""["'`][ \t]{0,4}(?:\\?\r?\n[ \t]{0,40})?[+.&,]{0,2}[ \t]{0,4}(?:\\?\r?\n[ \t]{0,40})?["'`]"""
)
_64: Final = "A-Za-z0-9+/_-"
# Three bytes of ASCII in base64: hardly a word in a program reads so for six bytes, all that is worth
# finding does.
_ASCII: Final = rf"(?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][{_64}])"
_BYTE: Final = "(?:0[xX])?[0-9A-Fa-f]{2}"

PASSES: Final[Mapping[str, _Pass]] = {
    "percent": _Pass("(?:%[0-9A-Fa-f]{2})+", _percent),
    "entities": _Pass(
        r"(?:&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});)+", _entity
    ),
    "escapes": _Pass(
        r"(?:\\u[0-9A-Fa-f]{4})+|(?:\\U[0-9A-Fa-f]{8})+|(?:\\x[0-9A-Fa-f]{2})+", _escape
    ),
    "base64": _Pass(
        rf"(?:\A|[^{_64}])"
        rf"((?:(?:[{_64}]{{4}})+?{_ASCII}{{2}}[{_64}]*|{_ASCII}{{2}}[{_64}]{{4,}})(?:\r?\n[{_64}]{{4,}})*={{0,2}})",
        _base64,
    ),
    "hex": _Pass(rf"{_BYTE}(?:(?:[ :,-]|, )?{_BYTE}){{6,}}", _hex),
    "spaced": _Pass("|".join(map(_apart, (" ", r"\.", "-", "_", r"\*", r"\|", r"\n"))), _spaced),
    "joined": _Pass(_JOIN, _unquoted),
    "spoken": _Pass(_WORDS, _spoken),
    "tags": _Pass(r"\?{4,}", _tagged),  # what is no ASCII stands there as question marks
    "rot13": _Pass("(?s).+", lambda run: codecs.encode(run, "rot13")),
    "reversed": _Pass("(?s).+", lambda run: run[::-1]),
}
USUAL: Final = tuple(name for name in PASSES if name not in ("rot13", "reversed"))
