"""What a plugin may return: everything else is a fault of that plugin, and is never taken for its answer."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import structs

from proxy import jsonio
from proxy.frozen import FrozenDict
from proxy.model import Admission, Call, Choice, Deny, Principal, Reply
from proxy.routing.ways import FIXED

_HEADER_NAME: Final = re.compile(r"x-[a-z0-9-]{1,64}\Z")
_RETRY_HEADER: Final = re.compile(r"retry-after(-ms)?\Z")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}\Z")
#: Headers that the server in front or the gateway itself gives a meaning to.
_OWN_HEADERS: Final = ("x-accel-", "x-outgate-", "x-request-id", "x-sendfile")
#: What ``rewrite_request`` leaves as it is: scopes, records and deadlines rest on it.
_KEPT: Final = ("id", "endpoint", "principal", "headers", "deadline")
#: Headers by which an answer from here says that it is one.
_OF_AN_ANSWER: Final = frozenset({"age", "x-outgate-cache"})
_OK: Final = 200
_LOWEST_REFUSAL: Final = 400
_HIGHEST_REFUSAL: Final = 599

_KINDS_OF_A_CHOICE: Final[Mapping[str, tuple[type, ...]]] = {
    "upstream": (str,),
    "target": (str,),
    "body": (Mapping,),
    "after": (int, float),
    "timeout": (int, float, type(None)),
    "again_on": (frozenset,),
    "again_unanswered": (bool,),
    "reply_headers": (Mapping,),
    "from_caller": (bool,),
}


def bad_refusal(result: Any) -> str | None:
    """What is wrong with the result of ``guard_request``, or None."""
    if result is None or isinstance(result, Deny):
        return None
    return f"returned {type(result).__name__}, not Deny or None"


def bad_call(call: Call, result: Any) -> str | None:
    """What is wrong with the result of ``rewrite_request``, or None; ``call`` is what the plugin was given."""
    if result is None or isinstance(result, Deny):
        return None
    # A subclass could show one text to the guardrails and send another.
    if type(result) is not Call:
        return f"returned {type(result).__name__}, not Call, Deny or None"
    changed = next((name for name in _KEPT if getattr(result, name) != getattr(call, name)), None)
    if changed is not None:
        return f"changed {changed}"
    body: Any = result.body
    if not isinstance(body, dict):
        return "set a body that is no object"
    if not _follows(result, call):
        return "set model or stream beside the body: change the body, they follow it"
    return _bad_notes(result.notes, call.notes) or _bad_headers(result.reply_headers)


def bad_choice(result: Any) -> str | None:
    """What is wrong with the result of ``choose_upstream``, or None."""
    if result is None or isinstance(result, str | Deny):
        return None
    if type(result) is not Choice:
        return f"returned {type(result).__name__}, not str, Choice, Deny or None"
    fields: dict[str, Any] = structs.asdict(result)
    for name, kinds in _KINDS_OF_A_CHOICE.items():
        if not isinstance(fields[name], kinds):
            return f"chose with {name} = {fields[name]!r:.64}, which is of the wrong type"
    if fixed := sorted(FIXED & set(result.body)):
        return f"set {fixed[0]!r} in a choice's body, which is the same for every upstream"
    if "model" in result.body and not _is_name(result.body["model"]):
        return "set a model in a choice's body that is no name"
    return _bad_times(result) or _unsendable(result.body) or _bad_headers(result.reply_headers)


def _bad_times(choice: Choice) -> str | None:
    """What is wrong with when a choice wants to be tried, and when another one is to be asked for."""
    if not 0 <= choice.after < math.inf:
        return "chose to wait for a time that is no number of seconds"
    if choice.timeout is not None and not 0 < choice.timeout < math.inf:
        return "chose with a timeout that is no number of seconds above zero"
    if not all(map(_refuses, choice.again_on)):
        return "chose to ask again on statuses that are no errors: 400 to 599 is taken"
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def bad_answer(result: Any) -> str | None:
    """What is wrong with the result of ``answer_request``, or None."""
    if result is None or isinstance(result, Deny):
        return None
    if type(result) is not Reply:
        return f"returned {type(result).__name__}, not Reply, Deny or None"
    if result.status != _OK:
        return "answered with a status that is not 200: refuse with a Deny"
    if not isinstance(result.body, dict):
        return "set a body that is no object"
    others = {
        name: value
        for name, value in result.headers.items()
        if name not in _OF_AN_ANSWER or not _HEADER_VALUE.match(value)
    }
    return _bad_headers(others) or _unsendable(result.body) or _bad_notes(result.notes, None)


def bad_observation(result: Any) -> str | None:
    """What is wrong with the result of ``observe_response``, or None."""
    return None if result is None else f"returned {type(result).__name__}, not None"


def _follows(result: Call, call: Call) -> bool:
    """Whether scopes and routes, which read ``model`` and ``stream``, see what the body says."""
    model = call.model if call.endpoint == "model" else result.body.get("model", call.model)
    stream = result.body.get("stream") is True
    return (
        (model is None or isinstance(model, str))
        and result.model == model
        and result.stream is stream
    )


def _bad_headers(headers: Mapping[str, Any]) -> str | None:
    for name, value in headers.items():
        if not (_is_header_name(name) and _HEADER_VALUE.match(value)):
            return f"set the reply header {name!r}: only x-* with printable ASCII is taken"
        if name.startswith(_OWN_HEADERS):
            return f"set the reply header {name!r}, which is not a plugin's to set"
    return None


@lru_cache(1024)
def _is_header_name(name: str) -> bool:
    return _HEADER_NAME.match(name) is not None


def _bad_notes(notes: Any, before: Any) -> str | None:
    if notes is before:
        return None
    if not isinstance(notes, Mapping):
        return "set notes that are no object"
    return _unwritable("notes", notes)


def _unwritable(what: str, value: Any) -> str | None:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        # The log would fail over it, and with a required log everybody's calls.
        return f"gave {what} that JSON cannot say ({type(error).__name__})"
    return None


def _unsendable(body: Any) -> str | None:
    try:
        jsonio.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        return f"set a body that JSON cannot say ({type(error).__name__})"
    return None


def bad_reply(reply: Reply, result: Any) -> str | None:
    """What is wrong with the result of ``rewrite_response``, or None; ``reply`` is what the plugin was given."""
    if result is None or isinstance(result, Deny):
        return None
    if type(result) is not Reply:
        return f"returned {type(result).__name__}, not Reply, Deny or None"
    if result.status != reply.status:
        return "changed status"
    if isinstance(reply.body, dict) and not isinstance(result.body, dict):
        return "set a body that is no object"
    return _bad_notes(result.notes, reply.notes)


def bad_denial(result: Any) -> str | None:
    """What is wrong with the result of ``rewrite_denial``, or None."""
    if result is None:
        return None
    if type(result) is not Reply:
        return f"returned {type(result).__name__}, not Reply or None"
    if not _refuses(result.status):
        return "set a status that is no refusal: 400 to 599 is taken"
    if not isinstance(result.body, dict):
        return "set a body that is no object"
    return _unsendable(result.body)


def _refuses(status: Any) -> bool:
    return type(status) is int and _LOWEST_REFUSAL <= status <= _HIGHEST_REFUSAL


def bad_principal(result: Any) -> str | None:
    """What is wrong with the result of ``identify``, or None."""
    if result is None:
        return None
    if not isinstance(result, Principal):
        return f"returned {type(result).__name__}, not Principal or None"
    # Whatever their annotations say, the fields hold what the plugin put there.
    name: Any = result.name
    groups: Any = result.groups
    metadata: Any = result.metadata
    if not (isinstance(name, str) and name):
        return "named a principal without a name"
    # A text is a sequence of texts too: groups="staff" would be the groups s, t, a, f.
    if not isinstance(groups, tuple) or not all(isinstance(group, str) for group in groups):
        return "named groups that are no tuple of texts"
    if not isinstance(metadata, Mapping):
        return "named metadata that is no object"
    return _unwritable("a principal", (result.name, result.groups, dict(metadata)))


def bad_admission(result: Any) -> str | None:
    """What is wrong with the result of ``admit``, or None."""
    if result is None or isinstance(result, Deny):
        return None
    if not isinstance(result, Admission):
        return f"returned {type(result).__name__}, not Admission, Deny or None"
    return _bad_headers(result.reply_headers)


def sound(deny: Deny) -> Deny:
    """``deny`` with whatever its plugin got wrong put right: a refusal is never lost over its wording."""
    message: Any = deny.message
    code: Any = deny.code
    param: Any = deny.param
    status: Any = deny.status
    kind: Any = deny.type
    return Deny(
        message if isinstance(message, str) else "Refused by policy.",
        code if isinstance(code, str) else "content_policy_violation",
        param if isinstance(param, str) else None,
        status if _refuses(status) else _LOWEST_REFUSAL,
        kind if isinstance(kind, str) else None,
        _sound_headers(deny.headers),
    )


def _sound_headers(headers: Any) -> Mapping[str, str]:
    if not isinstance(headers, Mapping):
        return FrozenDict()
    return FrozenDict(
        (name, value)
        for name, value in headers.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and _HEADER_VALUE.match(value)
        and (_RETRY_HEADER.match(name) or not _bad_headers({name: value}))
    )
