"""An upstream of chats for tests, which answers by what it is asked, whichever part of a call comes first."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy import Provider, hookimpl
from proxy.bridge.plan import Plan, planned
from proxy.bridge.settings import Bridge
from proxy.frozen import FrozenDict, freeze
from proxy.model import Call, Principal
from tests.upstream import Connection, Received, Script, json_reply

USAGE: Final = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
BRIDGED: Final[dict[str, Any]] = {"bridge": {"always": True}}


@dataclass(frozen=True)
class ChatOnly:
    """A provider without a route for completions."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        yield Provider(name="chat_only", paths=FrozenDict(chat="/chat/completions"))


def call(**body: Any) -> Call:
    """A completions call as the intake gives it."""
    full = freeze({"model": "m", "prompt": "Hello", **body})
    return Call(
        id="req_1",
        endpoint="completions",
        body=full,
        principal=Principal("alice"),
        model=full["model"],
        stream=full.get("stream") is True,
    )


def plan(bridge: Bridge | None = None, **body: Any) -> Plan:
    return planned(call(**body), bridge or Bridge())


def choice(
    text: str | None, index: int = 0, finish: str | None = "stop", **more: Any
) -> dict[str, Any]:
    """One choice of a whole chat."""
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish, **more}


def chat(*choices: Mapping[str, Any] | str, **more: Any) -> dict[str, Any]:
    """A whole chat."""
    given = [choice(one, at) if isinstance(one, str) else one for at, one in enumerate(choices)]
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1"}
    return {**head, "choices": given, "usage": USAGE, **more}


def delta(
    text: str | None = None, finish: str | None = None, index: int = 0, **said: Any
) -> dict[str, Any]:
    """One chunk of a streamed chat."""
    spoken = {**({} if text is None else {"content": text}), **said}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    one = {"index": index, "delta": spoken, "logprobs": None, "finish_reason": finish}
    return {**head, "choices": [one]}


def told(*texts: str) -> list[dict[str, Any]]:
    """The chunks of a stream that says these texts."""
    return [delta("", role="assistant"), *map(delta, texts), delta(finish="stop")]


def asked(request: Received) -> str:
    """What a chat was asked."""
    return str(request.json()["messages"][-1]["content"])


def by_prompt(scripts: Mapping[str, Script], other: Script | None = None) -> Script:
    """Each chat is answered by the script of its prompt."""

    def play(connection: Connection, request: Received) -> None:
        (scripts.get(asked(request)) or other or echoing())(connection, request)

    return play


def echoing(**more: Any) -> Script:
    """Each chat is answered with what it was asked, in brackets, as often as it asks for."""

    def play(connection: Connection, request: Received) -> None:
        n = request.json().get("n", 1)
        json_reply(chat(*[f"[{asked(request)}]"] * n, **more))(connection, request)

    return play


def token(text: str, logprob: float, *top: tuple[str, float], **more: Any) -> dict[str, Any]:
    """A token with its log-probability, as chats have it."""
    listed = [{"token": name, "logprob": value} for name, value in top]
    return {"token": text, "logprob": logprob, "top_logprobs": listed, **more}


def scored(*tokens: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": list(tokens), "refusal": None}


def strings(value: Any) -> Iterable[str]:
    """Every text and every key of a body."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)
