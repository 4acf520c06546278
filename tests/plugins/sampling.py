"""Makes texts that a pattern matches, so that no test needs a real or published secret."""

import random
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import string
from collections.abc import Callable
from typing import Any, Final

_PRINTABLE: Final = string.ascii_letters + string.digits + "!#%+-./:;=?@_~"
_CATEGORIES: Final = {
    op.CATEGORY_DIGIT: string.digits,
    op.CATEGORY_SPACE: " ",
    op.CATEGORY_WORD: string.ascii_letters + string.digits,
    op.CATEGORY_NOT_SPACE: _PRINTABLE,
}


def sample(pattern: str, dice: random.Random, accept: Callable[[str], bool] | None = None) -> str:
    """A short text that ``pattern`` matches and ``accept`` takes; fails after many tries."""
    tree = parser.parse(pattern)
    for turn in range(400):
        text = _Maker(dice, extra=turn // 50).text(tree)
        if accept is None or accept(text):
            return text
    raise AssertionError(f"no sample of {pattern!r} is accepted")


class _Maker:
    """Repeats what may repeat ``extra`` times more than it must."""

    def __init__(self, dice: random.Random, extra: int) -> None:
        self._dice = dice
        self._extra = extra

    def text(self, tree: Any) -> str:
        return "".join(self._part(code, value) for code, value in tree)

    def _part(self, code: Any, value: Any) -> str:
        if code is op.IN:
            return self._dice.choice(_members(value))
        if code is op.BRANCH:
            return self.text(self._dice.choice(value[1]))
        if code is op.SUBPATTERN:
            return self.text(value[3])
        if code is op.MAX_REPEAT:
            least, most, inner = value
            return "".join(self.text(inner) for _ in range(min(most, least + self._extra)))
        if code is op.NOT_LITERAL:
            return self._dice.choice(_PRINTABLE.replace(chr(value), ""))
        return "" if code is op.AT else _of(code, value)


def _members(items: list[Any]) -> str:
    chars = "".join(_of(code, value) for code, value in items if code is not op.NEGATE)
    if items[0][0] is op.NEGATE:
        return "".join(char for char in _PRINTABLE if char not in chars)
    return chars


def _of(code: Any, value: Any) -> str:
    if code is op.LITERAL:
        return chr(value)
    if code is op.RANGE:
        return "".join(map(chr, range(value[0], value[1] + 1)))
    return _CATEGORIES[value]
