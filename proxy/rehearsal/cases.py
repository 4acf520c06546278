"""Policy tests as data: files of cases, each a call, who sends it, and what is expected to become of it."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.model import Action, Call, Endpoint, Principal
from proxy.patterns import linear
from proxy.rehearsal.samples import made

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*case[ \t]*\]\]", re.MULTILINE)
_MODEL: Final = "test-model"
#: Where the text of a case stands, endpoint by endpoint.
_BODIES: Final[Mapping[str, str]] = {"completions": "prompt", "embeddings": "input"}


class Words(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected of a body: texts that stand in it, that do not, patterns, and members as they are."""

    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    body: dict[str, Any] = {}


class Expect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``expect``: what must become of the call; what is not named may be as it is.

    ``by`` is a plugin or ``gateway``; ``findings`` are the kinds that are found in the request, with or without what
    becomes of each; ``sent`` is about what would leave, ``shown`` about what the caller would be shown.
    """

    verdict: Literal["allowed", "denied"] | None = None
    by: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    findings: tuple[str, ...] | dict[str, Action] | None = None
    sent: Words | None = None
    reply: Literal["shown", "denied"] | None = None
    shown: Words | None = None


class As(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``as``: who sends the call."""

    principal: str = "tester"
    groups: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Written(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "as"}
):
    """``[[case]]`` as it is written: a ``text``, a ``body``, or both; ``reply`` is what the model answers.

    With ``echo`` the model answers with the text that reached it.
    """

    name: str
    expect: Expect
    endpoint: Endpoint | None = None
    model: str | None = None
    text: str | None = None
    body: dict[str, Any] = {}
    sender: As = As()
    headers: dict[str, str] = {}
    reply: str | dict[str, Any] | None = None
    echo: bool = False
    status: int = 200


class Case(Struct, frozen=True):
    """One case with its place: ``PATH:LINE``."""

    where: str
    written: Written
    call: Call


def cases_of(paths: Iterable[Path]) -> Iterator[Case]:
    """The cases of files, and of all ``*.toml`` below folders; raises ``ConfigError`` which names file and line."""
    for path in paths:
        files = sorted(path.rglob("*.toml")) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: there is no *.toml in it")
        for file in files:
            yield from _of_file(file)


def _of_file(path: Path) -> Iterator[Case]:
    try:
        text = path.read_text("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Name a file or a folder with cases."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for key in document:
        if key != "case":
            raise ConfigError(
                f"{path}: unknown key {key!r}.{nearest(key, ['case'])} Write [[case]]"
            )
    found = document.get("case")
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{path}: there is no case in it: write [[case]]")
    lines = [text.count("\n", 0, match.start()) + 1 for match in _HEADER.finditer(text)]
    seen: set[str] = set()
    for number, raw in enumerate(found):
        line = lines[number] if len(lines) == len(found) else 1
        yield _case(raw, f"{path}:{line}", seen)


def _case(raw: Any, where: str, seen: set[str]) -> Case:
    name = raw.get("name") if isinstance(raw, dict) else None
    named = f"{where}: case {name!r}" if isinstance(name, str) else f"{where}: case"
    for key in ("name", "expect"):
        if isinstance(raw, dict) and key not in raw:
            known = Written.__struct_encode_fields__
            near = [other for other in raw if other not in known and nearest(key, [other])]
            meant = f" Is {near[0]!r} meant to be it?" if near else ""
            raise ConfigError(f"{named}: {key!r} is missing.{meant}")
    written = convert(raw, Written, where=named)
    if written.name in seen:
        raise ConfigError(f"{named}: the name is taken by another case of this file")
    seen.add(written.name)
    _check(written, named)
    return Case(where, written, _call(written, named))


def _check(written: Written, where: str) -> None:
    expect = written.expect
    if expect == Expect():
        raise ConfigError(f'{where}: expect is empty: write expect = {{ verdict = "allowed" }}')
    refusal = [
        name for name in ("by", "code", "param", "status") if getattr(expect, name) is not None
    ]
    if refusal and expect.verdict == "allowed":
        raise ConfigError(f'{where}: expect.{refusal[0]} is of a refusal: write verdict = "denied"')
    if (expect.reply or expect.shown) and written.reply is None and not written.echo:
        raise ConfigError(f'{where}: nothing answers: add reply = "…", or echo = true')
    for side in ("sent", "shown"):
        words: Words | None = getattr(expect, side)
        for pattern in words.matches if words else ():
            try:
                linear(pattern)
            except ConfigError as error:
                raise ConfigError(f"{where}: expect.{side}.matches: {error}") from None


def _call(written: Written, where: str) -> Call:
    endpoint = written.endpoint or _endpoint(written.body)
    body = dict(written.body)
    if endpoint in ("models", "model"):
        if written.text is not None or body:
            raise ConfigError(f"{where}: the endpoint {endpoint!r} takes no text and no body")
    else:
        body = {"model": written.model or _MODEL, **_text(endpoint, written.text), **body}
        if written.text is None and len(body) == 1:
            raise ConfigError(f'{where}: nothing is said: write text = "…", or body = {{ … }}')
    sender = Principal(written.sender.principal, written.sender.groups, written.sender.metadata)
    return made(endpoint, body, sender, written.headers, model=written.model)


def _endpoint(body: Mapping[str, Any]) -> Endpoint:
    if "prompt" in body:
        return "completions"
    return "embeddings" if "input" in body else "chat"


def _text(endpoint: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if endpoint == "chat":
        return {"messages": [{"role": "user", "content": text}]}
    return {_BODIES[endpoint]: text}


def chosen(cases: Iterable[Case], words: Sequence[str]) -> list[Case]:
    """The cases in whose name or place one of ``words`` stands, in any case; all without words."""
    wanted = [word.casefold() for word in words]
    return [
        case
        for case in cases
        if not wanted
        or any(word in f"{case.where} {case.written.name}".casefold() for word in wanted)
    ]
