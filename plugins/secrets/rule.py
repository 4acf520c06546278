"""What one rule for a kind of secret is, and the two forms in which the tables write rules."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from plugins.secrets.checks import is_random, not_placeholder

Check = Callable[[str], bool]

_CLOSED: Final = r"""\\{0,3}["'`\])]{0,2}"""
_SIGNS: Final = (
    r"[ \t]{0,8}(?:[:?!+.|~]{0,3}=[=>~]?|:{1,3}|=>|->|\|)[ \t]{0,20}"
    r"|[ \t]{0,4}(?:,[ \t]{0,20}|[>(]\s{0,20})|[ \t]{1,8}(?:is[ \t:]{1,4})?"
)
_QUOTED: Final = r"""(?:[brfu@]?\\{0,3}["'`]|&quot;|[(\[]["'`]"""
#: What stands between a name and its value: quotes, brackets, an assignment in any notation, quotes again.
ASSIGN: Final = rf"{_CLOSED}(?:{_SIGNS}){_QUOTED}?)?"
# A value that stands apart from its name: behind a type, a default, an attribute, a tag or the end of a line.
_APART: Final = (
    r"""\*{1,2}[ \t]?[:=]?[ \t]?|[:=]\*{1,2}[ \t]{0,4}"""
    r"""|[ \t]?:[ \t]?[&']{0,2}\w[\w<>\[\]' .|?]{0,30}=[ \t]{0,8}"""
    r"""|[ \t]{1,4}(?:\|\||\?\?|or|:-)[ \t]{1,4}|:-"""
    r"""|[,;>]?[ \t]?[{]?\s{0,20}[<"'-]{0,2}(?:val(?:ue)?|content|default(?:_?[vV]alue)?|data|body|secret)\\?"""
    r"""["'>]?[ \t]{0,4}[:=]?[ \t]{0,4}"""
    r"""|</[\w.:-]{1,20}>\s{0,20}<[\w.:-]{1,20}>"""
    r"""|[ \t]?[:=]?[ \t]?\r?\n[ \t>`|-]{0,12}"""
)
_OPENED: Final = (
    r"""(?:[brfuq@$L]{0,2}\\{0,3}(?:["'`]{1,3}(?:\\["'])?|[(\[]{1,2}["'`]?)|&quot;|<!\[CDATA\[)"""
)
#: As ``ASSIGN``, with all that may stand between: for few rules, as it costs more.
ASSIGN_APART: Final = rf"{_CLOSED}(?:{_SIGNS}|{_APART}){_OPENED}?"
#: As ``ASSIGN_APART``, where the value must begin with a quote.
ASSIGN_QUOTED: Final = (
    rf"{_CLOSED}(?:{_SIGNS}|{_APART})"
    r"""(?:[brfu@$L]?\\{0,3}["'`]{1,3}(?:\\["'])?|&quot;|[(\[]["'`])"""
)
#: The rest of a variable's name between the vendor and the assignment.
_REST: Final = r"[\w.\-/ ]{0,40}"
#: The longest token a pattern takes, in characters; longer ones are written with ``opens``.
MOST: Final = 200
_CLASSES: Final = {
    "hex": "[0-9A-Fa-f]",
    "alnum": "[0-9A-Za-z]",
    "lower": "[0-9a-z]",
    "upper": "[0-9A-Z]",
    "digits": "[0-9]",
    "word": "[0-9A-Za-z_-]",
    "dotted": "[0-9A-Za-z_.=-]",
    "base64": "[0-9A-Za-z+/=_-]",
    "any": r"[!-~]",
}
UUID: Final = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"


@dataclass(frozen=True, slots=True)
class Rule:
    """``context`` and ``tail`` must stand around ``core`` and stay; ``core`` is the secret.

    A rule with ``opens`` and ``closes`` instead of ``core`` covers everything from one to the other.
    """

    kind: str
    core: str = ""
    context: str = ""
    tail: str = ""
    check: Check | None = None
    group: str = "secrets"
    opens: str = ""
    closes: str = ""
    most: int = 65536


def literal(group: str, table: str, check: Check | None = not_placeholder) -> Iterator[Rule]:
    """Rules from lines of ``kind  core`` or ``kind  context ~ core``: tokens known by their own form.

    ``{20,}`` in a table means 20 characters or more, up to ``MOST``.
    """
    for kind, pattern in _rows(table):
        context, _, core = pattern.rpartition(" ~ ")
        yield Rule(kind, bounded(core), bounded(context), check=check, group=group)


def long(group: str, table: str) -> Iterator[Rule]:
    """Rules from lines of ``kind  beginning  class``: tokens of any length, up to what is not of their class."""
    for kind, rest in _rows(table):
        beginning, _, chars = rest.rpartition(" ")
        yield Rule(kind, opens=beginning.strip(), tail=f"[^{chars}]", group=group)


def keyed(group: str, table: str, check: Check = is_random) -> Iterator[Rule]:
    """Rules from lines of ``kind  names  shape``: tokens without a form of their own, known by a name before them.

    ``names`` is one name or several joined by ``|``; ``shape`` is a class and a least length
    (``hex:32``), or ``uuid``.
    """
    for kind, rest in _rows(table):
        names, shape = rest.split()
        yield Rule(kind, value(shape), named(names), check=check, group=group)


def named(names: str) -> str:
    """The context of a value that is assigned to something with one of ``names`` in its name."""
    return f"(?i:{names}){_REST}{ASSIGN}"


def value(shape: str) -> str:
    """The pattern of a ``shape``: a run of its class, at least so long."""
    if shape == "uuid":
        return UUID
    name, _, least = shape.partition(":")
    return bounded(f"{_CLASSES[name]}{{{least},}}")


def bounded(pattern: str) -> str:
    """``{20,}`` as ``{20,MOST}``: what has no end could never be released from a stream."""
    return pattern.replace(",}", f",{MOST}}}")


def _rows(table: str) -> Iterable[tuple[str, str]]:
    for line in table.strip().splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind and not kind.startswith("#"):
            yield kind, rest.strip()
