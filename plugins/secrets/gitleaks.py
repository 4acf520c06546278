"""Reads an operator's own rules in the TOML of gitleaks and betterleaks, as far as texts have what they need.

Follows the configuration reference in gitleaks' README: ``rules`` with ``id``, ``regex``, ``secretGroup``,
``entropy`` and ``allowlists``. ``keywords`` only make gitleaks faster; ``path`` and ``commits`` speak of files.
"""

import logging
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from plugins.secrets.checks import entropy
from proxy import ConfigError, Detector, linear

log: Final = logging.getLogger("outgate.secrets")
_MOST: Final = 200  # what "+", "*" and "{n,}" mean in a text that may be a stream
_PART: Final = re.compile(
    r"\\Q.*?\\E|\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|\{\d+,\}|.", re.DOTALL
)
_FLAGS: Final = re.compile(r"\(\?([imsU]+)\)")
_OPENS_GROUP: Final = re.compile(r"\((?!\?)|\(\?P?<\w+>")


class _Split(NamedTuple):
    context: str
    core: str
    tail: str


def detectors(path: str) -> Iterator[Detector]:
    """One detector a rule of the file at ``path``.

    Raises ``ConfigError`` for a file that cannot be read and for a rule that cannot be kept to, by its id.
    """
    config = _load(path)
    allowed = _allowlists(config, path)
    if "path" in config.get("extend", {}):
        raise ConfigError(f"{path}: [extend] path is not followed; put the rules into one file")
    for number, rule in enumerate(config.get("rules", [])):
        name = rule.get("id") or f"rule {number + 1}"
        if "regex" not in rule:
            log.warning("%s: %s looks at file names only and is left out", path, name)
            continue
        try:
            yield _detector(rule, allowed + _allowlists(rule, path))
        except (ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: rule {name!r}: {error}") from None


def _load(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _detector(rule: dict[str, Any], allowed: list[Callable[[str], bool]]) -> Detector:
    pattern = rule["regex"]
    linear(pattern)
    parts = split(bounded(pattern), int(rule.get("secretGroup", 0)))
    least = float(rule.get("entropy", 0))

    def check(text: str) -> bool:
        return (not least or entropy(text) > least) and not any(allow(text) for allow in allowed)

    kind = re.sub(r"[^a-z0-9]+", "-", str(rule.get("id", "gitleaks-rule")).lower()).strip("-")
    return Detector(
        kind=kind,
        core=parts.core,
        context=parts.context,
        tail=parts.tail,
        check=check,
        groups=("secrets", "secrets.gitleaks"),
    )


def bounded(pattern: str) -> str:
    """``pattern`` with a bound on what has none, so that a stream can let it go."""
    return "".join(_bounded(part) for part in _PART.findall(pattern))


def _bounded(part: str) -> str:
    if part in ("+", "*"):
        return f"{{{int(part == '+')},{_MOST}}}"
    if part.startswith("{") and part.endswith(",}"):
        return f"{part[:-1]}{max(_MOST, int(part[1:-2]))}}}"
    return part


def split(pattern: str, group: int = 0) -> _Split:
    """What stands before the secret, the secret, and what stands after it.

    The secret is the group numbered ``group``, or the only one; when that lies inside another group, or
    there is no group, it is all that matches.
    """
    flags = "".join(match[1] for match in _FLAGS.finditer(pattern))
    bare = _FLAGS.sub("", pattern)
    groups, alternatives = _top_groups(bare)
    wanted = [span for number, span in groups if number == (group or 1)]
    alone = group or sum(1 for _ in groups) == 1
    if alternatives or not wanted or not alone:
        return _Split("", _flagged(bare, flags), "")
    start, end = wanted[0]
    return _Split(*(_flagged(part, flags) for part in (bare[:start], bare[start:end], bare[end:])))


def _flagged(pattern: str, flags: str) -> str:
    return f"(?{''.join(dict.fromkeys(flags))}:{pattern})" if flags and pattern else pattern


def _top_groups(pattern: str) -> tuple[list[tuple[int, tuple[int, int]]], bool]:
    """The capturing groups that lie in no other group, with their numbers; whether alternatives do."""
    found: list[tuple[int, tuple[int, int]]] = []
    place = depth = number = start = opened = 0
    alternatives = False
    for part in _PART.findall(pattern):
        if part == "(":
            captures = _OPENS_GROUP.match(pattern, place) is not None
            number += captures
            if depth == 0:
                start, opened = place, number if captures else 0
            depth += 1
        elif part == ")":
            depth -= 1
            if depth == 0 and opened:
                found.append((opened, (start, place + 1)))
        elif part == "|" and depth == 0:
            alternatives = True
        place += len(part)
    return found, alternatives


def _allowlists(table: dict[str, Any], path: str) -> list[Callable[[str], bool]]:
    """What a table allows, as questions about the secret's text."""
    lists = [*table.get("allowlists", []), *([table["allowlist"]] if "allowlist" in table else [])]
    return [allow for one in lists for allow in _allowlist(one, path)]


def _allowlist(table: dict[str, Any], path: str) -> Iterator[Callable[[str], bool]]:
    if table.get("condition", "OR").upper() in ("AND", "&&") and (
        table.keys() & {"paths", "commits"}
    ):
        return
    if table.get("regexTarget", "secret") not in ("secret", ""):
        log.warning("%s: an allow-list for the %s is left out", path, table["regexTarget"])
        return
    patterns = [linear(pattern) for pattern in table.get("regexes", [])]
    words = [str(word).lower() for word in table.get("stopwords", [])]
    if patterns:
        yield lambda text: any(pattern.search(text) for pattern in patterns)
    if words:
        yield lambda text: any(word in text.lower() for word in words)
