"""The reference: everything that a plugin may import, written from the code itself."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, get_args

import msgspec

import proxy
from proxy import hookspecs, model, testing

#: All that ``from proxy import`` gives, in the order to read it.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "What hooks are given": (
        "Request", "Credentials", "Principal", "Call", "Text", "Reply", "Failure", "Denial", "Record",
        "Usage", "Verdict", "Finding",
    ),
    "What hooks return": ("Deny", "Admission", "Choice", "Provider", "Detector"),
    "Providers and dialects": ("Bridge", "Dialect", "Interpreter", "Untranslatable"),
    "Trees of tries": ("Target", "Retry", "Fallback", "Balance", "Way", "next_choice"),
    "Options and state": (
        "Secret", "Deployment", "Upstream", "Store", "Charge", "Counts", "Labels", "Prices", "Price",
        "nano_units", "shown_money",
    ),
    "Sinks": ("Outbox", "Poster", "tls_context", "record_line"),
    "Asking a service": ("Asker", "Connections", "Connection", "PostHeaders"),
    "Texts and patterns": ("texts", "linear", "Globs", "unsendable"),
    "What a plugin raises": ("ConfigError", "Unavailable", "Undelivered", "Undeliverable"),
    "Marks": ("hookimpl", "only"),
}  # fmt: skip
#: What the docstrings of the package that has it would not tell.
OWN_WORDS: Final = {
    "hookimpl": "Marks a function or a method as the implementation of the hook of its name. Without arguments:"
    " wrappers, `tryfirst` and the like are refused at start.",
    "Way": "A `Target`, a `Fallback` or a `Balance`: each may stand within the others.",
}
#: Where the fields of a class have a table already.
TOLD: Final = {
    **dict.fromkeys(
        ("Record", "Usage", "Verdict", "Finding", "Failure"), "[Records](operations.md#records)"
    ),
    "Choice": "[Choose an upstream](plugins.md#choose-an-upstream)",
    "Detector": "[Detect](plugins.md#detect-and-leave-the-decision-to-the-operator)",
    "Upstream": "[Configuration](configuration.md#upstreamsname)",
    "Bridge": "[Configuration](configuration.md#upstreamsnamebridge)",
}
#: What is for the gateway itself, though it stands on a class of theirs.
_INNER: Final = {"complete", "start", "close", "database"}
#: What the fields mean whose class does not say it.
MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "Request": {
        "id": "of the call, as in its record",
        "endpoint": "what is called",
        "headers": "lower-case names; without credentials and cookies",
        "credentials": "what the caller showed",
        "client": "the address it comes from",
    },
    "Principal": {
        "name": "in records, `when` and limits",
        "groups": "for `when`, `models` and teams",
        "metadata": "in records and for routes: `key`, `owner`, `team`, labels",
    },
    "Call": {
        "id": "as in its record and in `x-outgate-id`",
        "endpoint": "what is called",
        "body": "the JSON of the request, frozen: objects are mappings, lists are sequences",
        "principal": "who calls",
        "headers": "lower-case names; without credentials and cookies",
        "model": "follows the body",
        "stream": "whether a stream is asked for; follows the body",
        "deadline": "when the call ends, by `time.monotonic()`; see `seconds_left()`",
        "reply_headers": "`x-…` headers that go with the answer",
        "notes": "what plugins noted; for the record",
    },
    "Reply": {
        "status": "of HTTP",
        "body": "its JSON, frozen; of errors whatever the upstream sent",
        "headers": "lower-case names; those that are passed back",
        "notes": "what plugins noted; for the record",
    },
    "Deny": {
        "message": "shown to the caller",
        "code": "the error's code, for programs",
        "param": "the parameter that it is about",
        "status": "400 to 599",
        "type": "the error's type",
        "headers": "`x-…`, `retry-after`, `retry-after-ms`",
    },
}
_WORDS: Final = {"Endpoint": model.Endpoint, "Outcome": model.Outcome, "Action": model.Action}


def hooks() -> str:
    """Every hook with its arguments, in the order in which they run."""
    found = [value for value in vars(hookspecs).values() if hasattr(value, "outgate_spec")]
    return "\n".join(f"### `{_headed(hook)}`\n\n{_markdown(_doc(hook))}\n" for hook in found)


def section(title: str) -> str:
    """One group of names."""
    return _joined(_entry(name, getattr(proxy, name)) for name in SECTIONS[title])


def words() -> str:
    """The names of types that stand for a few words."""
    rows = [
        f"| `{name}` | {', '.join(f'`{word}`' for word in get_args(kind))} |"
        for name, kind in _WORDS.items()
    ]
    return "\n".join(["| type | one of |", "|---|---|", *rows, ""])


def kit() -> str:
    """What ``from proxy.testing import`` gives."""
    return _joined(_entry(name, getattr(testing, name)) for name in testing.__all__)


def _joined(entries: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(entries)).rstrip() + "\n"


# -- one name ----------------------------------------------------------------------------------------


def _entry(name: str, thing: Any) -> str:
    """A name with its signature, what it says of itself, its fields and its methods."""
    lines = [f"### `{name}`", ""]
    if name in OWN_WORDS:
        return "\n".join([*lines, OWN_WORDS[name], ""])
    is_class = inspect.isclass(thing)
    if not is_class:
        lines += [f"`{_headed(thing, whole=True)}`", ""]
    lines += [_markdown(_doc(thing)), ""]
    if name in TOLD:
        lines += [f"{TOLD[name]} has its fields.", ""]
    elif is_class:
        lines += [*_arguments(name, thing), ""]
    if is_class and (rows := list(_methods(thing))):
        lines += ["| also | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _arguments(name: str, kind: type) -> Iterator[str]:
    """A table of the fields, or of what an instance is made from."""
    if issubclass(kind, Exception):
        given = (
            [p for p in _parameters(kind.__init__) if p.name != "self"]
            if "__init__" in vars(kind)
            else []
        )
    else:
        given = _parameters(kind)
    public = [p for p in given if not p.name.startswith("_")]
    if not public or name == "Harness":
        return
    meanings = MEANINGS.get(name)
    assert meanings is None or meanings.keys() == {p.name for p in public}, name
    head = " | meaning |" if meanings else " |"
    yield f"| {'field' if issubclass(kind, msgspec.Struct) else 'argument'} | type | default{head}"
    yield f"|---|---|---{'|---|' if meanings else '|'}"
    for parameter in public:
        default = _default(parameter)
        told = f" {meanings[parameter.name]} |" if meanings else ""
        yield f"| `{parameter.name}` | `{_type(parameter.annotation)}` | {default} |{told}"


def _parameters(thing: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        p for p in inspect.signature(thing).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    """A default as somebody would write it."""
    if isinstance(value, frozenset):
        return f"{{{', '.join(map(str, sorted(value)))}}}" if value else "{}"
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}()"
    if value is None or isinstance(value, str | int | float | tuple | dict):
        return repr(value)
    return "…"


def _methods(kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        if name.startswith("_") or name in (*_INNER, *getattr(kind, "__struct_fields__", ())):
            continue
        found = getattr(value, "__func__", value)
        if isinstance(found, property):
            yield f"| `.{name}` | {_line(_doc(found))} |"
        elif inspect.isfunction(found):
            yield f"| `.{name}({_listed(found)})` | {_line(_doc(found))} |"


def _headed(function: Callable[..., Any], *, whole: bool = False) -> str:
    """A function's name and arguments; ``whole`` with types."""
    if not whole:
        return f"{function.__name__}({_listed(function)})"
    written = _type(str(inspect.signature(function))).replace(r"\|", "|")
    return function.__name__ + re.sub(r"-> '([^']+)'", r"-> \1", written)


def _listed(function: Callable[..., Any]) -> str:
    marks: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    return ", ".join(
        f"{marks.get(p.kind, '')}{p.name}" + ("" if p.default is p.empty else f"={_shown(p.default)}")
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "cls")
    ).replace("|", "\\|")  # fmt: skip


# -- how it is written -------------------------------------------------------------------------------


def _type(annotation: Any) -> str:
    """A type as somebody would write it, fit for a cell of a table."""
    text = (
        annotation.__name__
        if isinstance(annotation, type) and not get_args(annotation)
        else str(annotation)
    )
    for name, kind in _WORDS.items():
        text = text.replace(str(kind), name).replace(str(kind).removeprefix("typing."), name)
    text = re.sub(
        r"(?:collections\.abc|typing|decimal|re|ssl|pathlib|datetime|proxy(?:\.\w+)*)\.(?=\w)",
        "",
        text,
    )
    text = text.replace("Target | Balance | Fallback", "Way").replace("~_F", "F")
    return text.replace("|", "\\|")


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _line(text: str) -> str:
    """The first paragraph, fit for a cell."""
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split()).replace("|", "\\|")


def _markdown(text: str) -> str:
    """A docstring as Markdown: its examples as code, its words in one line for each paragraph."""
    blocks = text.replace("``", "`").split("\n\n")
    return "\n\n".join(_paragraphs(blocks))


def _paragraphs(blocks: Iterable[str]) -> Iterator[str]:
    code: list[str] = []
    for block in [*blocks, ""]:
        if block.startswith("    "):
            code.append(block)
            continue
        if code:
            yield f"```python\n{inspect.cleandoc(chr(10) + chr(10).join([*code]))}\n```"
            code = []
        if block == "Example::":
            continue
        if block.startswith("- "):
            yield re.sub(r"\n  +", " ", block)
        elif block:
            yield re.sub("::$", ":", " ".join(block.split()))
