"""The one door for patterns that come from outside the code: linear time, whatever the text."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

# google-re2 ships no type stubs: its patterns are used, and typed, like those of ``re``.
import re2

from proxy.errors import ConfigError

_SHOWN: Final = 80  # characters of a pattern that a message repeats
_PLAIN_GROUP: Final = "write a plain group, '(?:...)'"
_GROUPS: Final[Mapping[str, tuple[str, str]]] = {
    "(?=": ("it looks ahead", "match what follows too and group what you want, 'foo(bar)'"),
    "(?!": ("it looks ahead", "match what may follow instead, 'foo(?:[^b]|$)'"),
    "(?<=": ("it looks behind", "match what stands before too and group what you want, '(foo)bar'"),
    "(?<!": ("it looks behind", r"match what may stand before instead, '\bbar' or '(?:^|[^o])bar'"),
    "(?>": ("it has an atomic group, which only steers backtracking", _PLAIN_GROUP),
    "(?P": ("it refers back to a group", "spell out what may repeat, '(?:aa|bb)'"),
    "(?(": ("it has a conditional group", "write the cases as alternatives, '(?:a|b)'"),
    "(?#": ("it has a comment inside", "put the comment beside the pattern"),
}
_ESCAPES: Final[Mapping[str, tuple[str, str]]] = {
    "k": ("it refers back to a group", "spell out what may repeat, '(?:aa|bb)'"),
    "Z": (r"it ends with \Z", r"write '\z' for the end of the text"),
    "h": (r"it has \h", r"write '[ \t]' for a blank"),
    "R": (r"it has \R", r"write '(?:\r\n|\n|\r)' for a line end"),
}
_BY_CODE: Final = ("it names a character in a form RE2 does not know", r"write it as '\x{00E9}'")
_ANY: Final = "*"
_WILD: Final = frozenset("*?")
_BACK: Final = ("it refers back to a group", "spell out what may repeat, '(?:aa|bb)'")


def linear(pattern: str) -> re.Pattern[str]:
    """``pattern`` compiled by RE2: used like a pattern of ``re``, in time linear in the text.

    Raises ``ConfigError`` for what RE2 refuses (look-arounds, backreferences, possessive
    repetition, …), with the nearest form that works. Source: RE2 syntax reference.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return cast(re.Pattern[str], re2.compile(pattern, options))
    except UnicodeEncodeError:
        reason, remedy = "it holds half a character", "write it as valid Unicode"
    except re2.error as error:
        kind, _, token = error.args[0].decode(errors="replace").partition(": ")
        reason, remedy = _explain(kind, token)
    raise ConfigError(f"the pattern {_clip(pattern)} cannot be used: {reason}; {remedy}")


def _explain(kind: str, token: str) -> tuple[str, str]:
    if kind == "invalid perl operator":
        flags = "use the flags i, m, s, U and the groups '(?:...)' and '(?P<name>...)'"
        return _GROUPS.get(token, (f"RE2 does not know {token!r}", flags))
    if kind == "invalid escape sequence":
        return _explain_escape(token)
    if kind == "bad repetition operator" and token.endswith("+"):
        return "it repeats possessively, which only steers backtracking", f"write {token[:-1]!r}"
    if kind == "invalid repetition size":
        return "it repeats more than 1000 times, nested counts multiplied", "use '*' or '+'"
    if kind == "pattern too large - compile failed":
        return "it is too large once compiled", "split it, or repeat less often"
    return f"{kind}: {token}" if token else kind, "correct it there, or escape the character"


def _explain_escape(token: str) -> tuple[str, str]:
    letter = token[1:2]
    if letter.isdigit():
        return _BACK
    if letter in ("u", "U", "N"):
        return _BY_CODE
    fallback = (f"RE2 does not know {token!r}", "see the RE2 syntax for the nearest class")
    return _ESCAPES.get(letter, fallback)


def _clip(pattern: str) -> str:
    return repr(pattern if len(pattern) <= _SHOWN else pattern[:_SHOWN] + "…")


class Globs:
    """Names an operator lists with ``*`` (any text) and ``?`` (any one character), nothing else.

    A name matches as a whole and with its case; without patterns nothing matches.
    """

    __slots__ = ("_compiled", "_names", "everything", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ``ConfigError`` for patterns that are not valid Unicode or too many to compile."""
        self.patterns = tuple(patterns)
        #: Whether every name matches, so that nobody need ask.
        self.everything = _ANY in self.patterns
        choices = "|".join(map(_as_regex, self.patterns))
        self._compiled = linear(rf"(?s)\A(?:{choices})\z") if self.patterns else None
        # Most lists say everything or plain names, and each call asks several of them.
        self._names = frozenset(name for name in self.patterns if not _WILD & set(name))

    def match(self, text: str) -> bool:
        """Whether any of the patterns matches the whole of ``text``."""
        if self.everything or text in self._names:
            return True
        return self._compiled is not None and self._compiled.search(text) is not None

    def __repr__(self) -> str:
        return f"Globs({list(self.patterns)!r})"


def _as_regex(glob: str) -> str:
    wild = {"*": ".*", "?": "."}
    return "".join(wild.get(char) or re.escape(char) for char in glob)
