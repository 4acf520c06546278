"""Looks over a plugin's shoulder: what its hooks raise, and whether they edit what they are given."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from proxy.errors import Unavailable
from proxy.model import Call, Reply
from proxy.origins import told
from proxy.outbox import Undelivered
from proxy.records import Record
from proxy.steps import Chain, PluginFault, Step

#: What a frozen value says to whoever edits it: ours, a dataclass's, a Struct's.
_FROZEN: Final = ("is frozen", "immutable type", "cannot assign to field")
_RETURN: Final = {
    "rewrite_request": "return call.with_body(…) or call.note(…) instead",
    "rewrite_response": "return reply.with_body(…) instead",
    "rewrite_denial": "return reply.replace(…) instead",
}


def watched(
    chain: Chain, notes: list[tuple[str, str]], hooks: Iterable[str] | None = None
) -> Chain:
    """The chain with every step watched: (hook, sentence) goes to ``notes``. ``hooks`` are those that stay."""
    kept = set(Chain.__struct_fields__ if hooks is None else hooks)
    steps = {
        hook: tuple(replace(step, function=_watched(step, notes)) for step in getattr(chain, hook))
        for hook in Chain.__struct_fields__
        if hook in kept
    }
    return Chain(**steps)


def _watched(step: Step, notes: list[tuple[str, str]]) -> Callable[..., Any]:
    return partial(_run, step, notes)


def _run(step: Step, notes: list[tuple[str, str]], *given: Any) -> Any:
    before = [_written(value) for value in given]
    try:
        return step.function(*given)
    except (Unavailable, Undelivered):
        raise  # a refusal, said in the way that is meant for it
    except PluginFault as error:
        notes.append((step.hook, _raised(step.hook, error)))
        raise
    finally:
        if [_written(value) for value in given] != before:
            notes.append((step.hook, _edited(step.hook)))


def _written(value: Any) -> Any:
    """What stands in a value that a hook is given, to be compared with what stands there later."""
    match value:
        case Call() | Reply():
            return msgspec.json.encode([value.body, value.notes, value.headers])
        case Record():
            return dict(value.notes)
        case _:
            return None


def _raised(hook: str, error: BaseException) -> str:
    if any(mark in str(error) for mark in _FROZEN):
        return _edited(hook)
    return f"{hook} raised {told(error)}"


def _edited(hook: str) -> str:
    instead = _RETURN.get(hook, "take a copy of what you change")
    return f"{hook} edits what it was given, which others see too: {instead}."
