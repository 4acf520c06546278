"""How providers ask to be called and how they answer, as data: one file each in ``provider_shapes``.

``openai.json`` is whole; the others hold what is different: fields beyond OpenAI's, other paths, other errors.
``paths`` are those that arrive at the server, ``stream`` is what is special about its events. ``translated`` is there
for a provider that does not speak OpenAI's chats.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from proxy import Provider
from proxy.cli.provided import provided
from tests.gateway import UPSTREAM_KEY
from tests.upstream import Received, Script, json_reply, sse

FOLDER: Final = Path(__file__).with_name("provider_shapes")
MODEL: Final = "model-1"
ASKED: Final[Mapping[str, dict[str, Any]]] = {
    "completions": {"model": MODEL, "prompt": "Hello", "max_tokens": 5},
    "chat": {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5},
    "embeddings": {"model": MODEL, "input": "Hello"},
}
#: Where our callers ask.
OURS: Final = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "models": "/v1/models",
    "model": f"/v1/models/{MODEL}",
}
PROVIDED: Final = provided()
DONE: Final = "[DONE]"


class Shape:
    """The shape of one provider."""

    def __init__(self, name: str) -> None:
        own = json.loads((FOLDER / f"{name}.json").read_text())
        whole = json.loads((FOLDER / "openai.json").read_text())
        self.name = name
        self.provider: Provider = PROVIDED[name].provider
        self.data: dict[str, Any] = merged(whole, own)
        self.paths: dict[str, str] = own["paths"]
        self.credential: dict[str, str] = own.get("credential", whole["credential"])
        self.headers: dict[str, str] = own.get("headers", {})
        self.error: dict[str, Any] = own.get("error", whole["error"])

    @property
    def upstream(self) -> dict[str, Any]:
        """``[upstreams.NAME]`` with the real path of the base URL, on the scripted server."""
        path = urlsplit(self.provider.base_url or "https://host/v1").path
        return {
            "provider": self.name,
            "base_url": "{url}" + path,
            "settings": self.data.get("settings"),
            **({} if self.credential else {"credential": None}),
        }

    @property
    def plugins(self) -> list[dict[str, Any]]:
        plugin = PROVIDED[self.name].plugin
        return [] if plugin == "openai_compatible" else [{"use": plugin}]

    def reply(self, kind: str) -> Any:
        """The whole answer of an endpoint."""
        return self.data["models"]["data"][0] if kind == "model" else self.data[kind]

    def whole(self, kind: str) -> Script:
        return json_reply(self.reply(kind))

    @property
    def translated(self) -> dict[str, Any]:
        """What a provider with a dialect of its own is sent, and how it answers, for the call to chat."""
        found: dict[str, Any] = self.data["translated"]
        return found

    def named_events(self) -> Script:
        """The stream of such a provider: every event has its type for a name."""
        events = self.translated["events"]
        return sse(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)

    def refusal(self) -> Script:
        return json_reply(self.error["body"], self.error["status"])

    def events(self, kind: str) -> list[Any]:
        """The payloads of a stream of an endpoint: "Hello", " there", and the end."""
        special = self.data["stream"]
        chat = kind != "completions" and "message" in self.reply(kind)["choices"][0]
        head = {
            "id": "s-1",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1,
            "model": MODEL,
        }
        said = [{"content": text} for text in ("", "Hello", " there")] + [{}]
        said[0]["role"] = "assistant"
        found = []
        for at, delta in enumerate(said):
            content = {"delta": delta} if chat else {"text": delta.get("content", "")}
            finish = "stop" if delta == {} else None
            choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish}
            more = special.get("last", {}) if at == len(said) - 1 else {}
            found.append({**head, "choices": [choice], **special.get("every", {}), **more})
        return [*special.get("first", []), *found]

    def stream(self, kind: str) -> Script:
        comment = self.data["stream"].get("comment")
        opening = [f"{comment}\n\n".encode()] if comment else []
        return sse([*opening, *self.events(kind), DONE])

    def check_request(self, request: Received, kind: str, body: Any = None) -> None:
        """What arrived is what the provider's documents ask for."""
        method = "GET" if kind in {"models", "model"} else "POST"
        assert (request.method, request.path) == (method, self.paths[kind])
        sent = {
            name: request.header(name)
            for name in ("authorization", "api-key", "x-api-key")
            if request.header(name)
        }
        assert sent == {
            name: value.replace("KEY", UPSTREAM_KEY) for name, value in self.credential.items()
        }
        assert {name: request.header(name) for name in self.headers} == self.headers
        if body is not None:
            assert request.json() == body


def merged(base: Any, more: Any) -> Any:
    """``more`` laid over ``base``: objects by key, lists of objects by place, anything else in its stead."""
    if isinstance(base, dict) and isinstance(more, dict):
        both = {name: merged(base[name], more[name]) for name in base.keys() & more.keys()}
        return {**base, **more, **both}
    if isinstance(base, list) and isinstance(more, list) and base and more:
        return [*(merged(*pair) for pair in zip(base, more, strict=False)), *more[len(base) :]]
    return more


def payloads(body: bytes) -> list[Any]:
    """The data of the events of a stream; its last word as it stands."""
    lines = (line for line in body.decode().splitlines() if line.startswith("data: "))
    data = [line.removeprefix("data: ") for line in lines]
    return [one if one == DONE else json.loads(one) for one in data]


def said(events: Iterable[Any]) -> tuple[str, list[str]]:
    """The text of a stream of completions or of a chat, and how its choices ended."""
    choices = [choice for event in events if event != DONE for choice in event["choices"]]
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    texts = [choice.get("text") or choice.get("delta", {}).get("content") for choice in choices]
    return "".join(filter(None, texts)), ends
