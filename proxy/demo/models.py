"""The models the demo upstream offers, and which routes each of them answers."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from proxy.demo.refusals import Refused, unknown_model, wrong_kind, wrong_type
from proxy.demo.textmodel import TextModel

_OWNER = "outgate-demo"
_CREATED = 1_700_000_000

#: Model name → the routes it answers; the last three are there for sample code written for OpenAI.
MODELS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "demo-instruct": frozenset({"completions", "chat", "embeddings"}),
        "demo-base": frozenset({"completions"}),
        "gpt-3.5-turbo-instruct": frozenset({"completions"}),
        "gpt-4o-mini": frozenset({"chat"}),
        "text-embedding-3-small": frozenset({"embeddings"}),
    }
)


@cache
def text_model() -> TextModel:
    """The one text model of this process: it never changes once it has read its documents."""
    return TextModel()


def card(name: str) -> dict[str, Any]:
    """One model as `GET /v1/models/{model}` gives it. Raises Refused (404) for an unknown one."""
    if name not in MODELS:
        raise unknown_model(name)
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": _OWNER}


def chosen(body: Mapping[str, Any], kind: str) -> str:
    """The model a request names. Raises Refused when it is missing, unknown or of another kind."""
    name = body.get("model")
    if name is None or name == "":
        raise Refused("You must provide a model parameter.", param="model")
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    if name not in MODELS:
        raise unknown_model(name)
    if kind not in MODELS[name]:
        raise wrong_kind(kind)
    return name
