"""A chat as Anthropic's Messages API takes it, or a sentence that says why it cannot be."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from plugins.providers.anthropic_content import contents_of
from proxy import Untranslatable

#: Every text that a body gets from here.
# fmt: off
WORDS: Final = frozenset({
    "any", "assistant", "auto", "base64", "cache_control", "content", "data", "description",
    "disable_parallel_tool_use", "id", "image", "image/gif", "image/jpeg", "image/png",
    "image/webp", "input", "input_schema", "max_tokens", "media_type", "messages", "metadata",
    "model", "name", "none", "object", "properties", "role", "source", "stop_sequences", "stream",
    "strict", "system", "temperature", "text", "tool", "tool_choice", "tool_result", "tool_use",
    "tool_use_id", "tools", "top_k", "top_p", "type", "url", "user", "user_id",
})
# fmt: on
#: The same in both.
_KEPT: Final[tuple[str, ...]] = (
    "model",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "thinking",
    "output_config",
    "cache_control",
)
#: Said in another way.
_TURNED: Final = (
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "parallel_tool_calls",
    "service_tier",
    "stop",
    "stream_options",
    "tool_choice",
    "tools",
    "user",
)
#: What asks for nothing: these values change no answer, so they need no counterpart.
_IDLE: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
}
#: What to do about the rest, where there is more to say than to leave it out.
_INSTEAD: Final = {
    "functions": "write tools",
    "function_call": "write tool_choice",
    "reasoning_effort": 'leave it out, or write output_config = {"effort": "…"}',
    "response_format": "leave it out, or ask for a tool call, whose arguments have a schema",
    "n": "send the call several times",
    "safety_identifier": "write user",
    "temperature": "write a number from 0 to 1",
}


def body_of(chat: Mapping[str, Any], default_tokens: int) -> dict[str, Any]:
    """The Messages body for a chat; raises ``Untranslatable``."""
    given = {name: value for name, value in chat.items() if value is not None}
    for name, value in given.items():
        if name not in _KEPT and name not in _TURNED and value not in _IDLE.get(name, ()):
            _cannot(name)
    if given.get("temperature", 0) > 1:
        _cannot("temperature")
    body: dict[str, Any] = {name: given[name] for name in _KEPT if name in given}
    body["max_tokens"] = _limit(given, default_tokens)
    system, messages = contents_of(given["messages"])
    if system:
        body["system"] = system
    body["messages"] = messages
    return {**body, **dict(_others(given))}


def _cannot(name: str) -> NoReturn:
    remedy = _INSTEAD.get(name, "leave it out")
    raise Untranslatable(
        f"This model's provider has nothing like {name[:64]!r} as it was sent: {remedy}.", name[:64]
    )


def _limit(given: Mapping[str, Any], default: int) -> Any:
    named = [given[name] for name in ("max_completion_tokens", "max_tokens") if name in given]
    if len(named) == 2 and named[0] != named[1]:  # noqa: PLR2004 - both of them
        raise Untranslatable(
            "max_tokens and max_completion_tokens differ: send one of them.", "max_tokens"
        )
    return named[0] if named else default


def _others(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "stop" in given:
        stop = given["stop"]
        yield "stop_sequences", [stop] if isinstance(stop, str) else list(stop)
    if (metadata := _metadata(given)) is not None:
        yield "metadata", metadata
    if given.get("tools"):
        yield "tools", [_tool(tool, number) for number, tool in enumerate(given["tools"])]
    if (choice := _tool_choice(given)) is not None:
        yield "tool_choice", choice
    _check_options(given.get("stream_options", {}))
    if given.get("service_tier", "auto") not in ("auto", "default"):
        _cannot("service_tier")


def _metadata(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Who the call is for: all that Anthropic's metadata may say."""
    metadata = given.get("metadata", {})
    if metadata.keys() - {"user_id"}:
        raise Untranslatable(
            "This model's provider takes no metadata but user_id: leave out the rest.", "metadata"
        )
    users = [metadata["user_id"]] if "user_id" in metadata else []
    users += [given["user"]] if "user" in given else []
    if users[1:] and users[0] != users[1]:
        raise Untranslatable("user and metadata.user_id differ: send one of them.", "user")
    return {"user_id": users[0]} if users else None


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name != "include_usage" and value not in (None, False):
            raise Untranslatable(
                f"This model's provider has nothing like stream_options.{name[:64]}: leave it out.",
                "stream_options",
            )


# -- tools -----------------------------------------------------------------------------------------


def _tool(tool: Any, number: int) -> dict[str, Any]:
    place = f"tools[{number}]"
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or tool.get("type") != "function":
        raise Untranslatable(
            f"{place} is no function, which is all this provider takes here.", place
        )
    more = {*tool} - {"type", "function", "cache_control"} | {*function} - _OF_A_FUNCTION
    if more:
        name = min(more)[:64]
        raise Untranslatable(
            f"This model's provider has nothing like {name!r} of {place}: leave it out.", place
        )
    made = {"name": function.get("name")}
    if function.get("description") is not None:
        made["description"] = function["description"]
    schema = function.get("parameters")
    made["input_schema"] = schema or {"type": "object", "properties": {}}
    if function.get("strict"):
        made["strict"] = True
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


_OF_A_FUNCTION: Final = frozenset({"name", "description", "parameters", "strict"})
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def _tool_choice(given: Mapping[str, Any]) -> dict[str, Any] | None:
    choice = given.get("tool_choice")
    one_by_one = given.get("parallel_tool_calls") is False
    if choice is None and not one_by_one:
        return None
    made: dict[str, Any]
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping):
        made = {"type": "tool", "name": function.get("name")}
    elif isinstance(choice, str | None) and (choice or "auto") in _CHOICES:
        made = {"type": _CHOICES[choice or "auto"]}
    else:
        raise Untranslatable(
            "This model's provider takes auto, none, required or one function as tool_choice.",
            "tool_choice",
        )
    return {**made, "disable_parallel_tool_use": True} if one_by_one and choice != "none" else made
