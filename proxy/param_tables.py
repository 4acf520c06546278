"""What each endpoint accepts, one row per parameter: the source of the checks and of the docs."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from proxy.frozen import FrozenDict
from proxy.model import Endpoint

Kind: TypeAlias = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "object",
    "[string]",
    "[integer]",
    "[[integer]]",
    "[object]",
    "{string: number}",
]


class Param(Struct, frozen=True):
    """One parameter: its JSON types, and the limits that are only checked when strict.

    ``low`` and ``high`` bound the number, or each number of an object; ``most`` is a list's length.
    ``default`` is what the upstream takes when it is absent. It is for the docs: we add nothing.
    """

    name: str
    types: tuple[Kind, ...]
    nullable: bool = True
    low: float | None = None
    high: float | None = None
    default: str = ""
    most: int | None = None
    required: bool = False
    source: str = ""

    def limits(self) -> str:
        """The limits in words, or nothing."""
        if self.most is not None:
            return f"at most {self.most}"
        if self.low is None:
            return ""
        return f"{self.low:g} or more" if self.high is None else f"{self.low:g} to {self.high:g}"


_TEXT: Final[tuple[Kind, ...]] = ("string",)
_INT: Final[tuple[Kind, ...]] = ("integer",)
_NUM: Final[tuple[Kind, ...]] = ("number",)
_BOOL: Final[tuple[Kind, ...]] = ("boolean",)
_OBJ: Final[tuple[Kind, ...]] = ("object",)
_OBJS: Final[tuple[Kind, ...]] = ("[object]",)
_TEXTS: Final[tuple[Kind, ...]] = ("string", "[string]")
_TOKENS: Final[tuple[Kind, ...]] = ("string", "[string]", "[integer]", "[[integer]]")
_CHOICE: Final[tuple[Kind, ...]] = ("string", "object")
_BIAS: Final[tuple[Kind, ...]] = ("{string: number}",)

_MODEL: Final = Param("model", _TEXT, nullable=False, required=True)
_SAMPLING: Final = (
    Param("frequency_penalty", _NUM, low=-2, high=2, default="0"),
    Param("logit_bias", _BIAS, low=-100, high=100, default="null"),
    Param("n", _INT, low=1, high=128, default="1"),
    Param("presence_penalty", _NUM, low=-2, high=2, default="0"),
    Param("seed", _INT),
    Param("stop", _TEXTS, default="null", most=4),
    Param("stream", _BOOL, default="false"),
    Param("stream_options", _OBJ, default="null"),
    Param("temperature", _NUM, low=0, high=2, default="1"),
    Param("top_p", _NUM, low=0, high=1, default="1"),
)


def _table(source: str, *params: Param) -> Mapping[str, Param]:
    """The rows by name, each with where it comes from."""
    rows = (msgspec.structs.replace(param, source=source) for param in params)
    return FrozenDict((row.name, row) for row in rows)


TABLES: Final[Mapping[Endpoint, Mapping[str, Param]]] = {
    "completions": _table(
        "OpenAI API reference, Completions",
        _MODEL,
        Param("prompt", _TOKENS, default="<|endoftext|>", required=True),
        Param("best_of", _INT, low=0, high=20, default="1"),
        Param("echo", _BOOL, default="false"),
        Param("logprobs", _INT, low=0, high=5, default="null"),
        Param("max_tokens", _INT, low=0, default="16"),
        Param("suffix", _TEXT, default="null"),
        Param("user", _TEXT, nullable=False),
        *_SAMPLING,
    ),
    "chat": _table(
        "OpenAI API reference, Chat Completions",
        _MODEL,
        Param("messages", _OBJS, nullable=False, required=True),
        Param("audio", _OBJ, default="null"),
        Param("function_call", _CHOICE),
        Param("functions", _OBJS, most=128),
        Param("logprobs", _BOOL, default="false"),
        Param("max_completion_tokens", _INT, low=0),
        Param("max_tokens", _INT, low=0),
        Param("metadata", _OBJ, default="null"),
        Param("modalities", ("[string]",), default='["text"]'),
        Param("moderation", _OBJ, default="null"),
        Param("parallel_tool_calls", _BOOL, default="true"),
        Param("prediction", _OBJ, default="null"),
        Param("prompt_cache_key", _TEXT),
        Param("prompt_cache_options", _OBJ),
        Param("prompt_cache_retention", _TEXT),
        Param("reasoning_effort", _TEXT),
        Param("response_format", _OBJ),
        Param("safety_identifier", _TEXT),
        Param("service_tier", _TEXT, default='"auto"'),
        Param("store", _BOOL, default="false"),
        Param("tool_choice", _CHOICE),
        Param("tools", _OBJS),
        Param("top_logprobs", _INT, low=0, high=20),
        Param("user", _TEXT),
        Param("verbosity", _TEXT),
        Param("web_search_options", _OBJ),
        *_SAMPLING,
    ),
    "embeddings": _table(
        "OpenAI API reference, Embeddings",
        _MODEL,
        Param("input", _TOKENS, nullable=False, required=True),
        Param("dimensions", _INT, low=1),
        Param("encoding_format", _TEXT, default='"float"'),
        Param("user", _TEXT),
    ),
}

STREAM_OPTIONS: Final = _table(
    "OpenAI API reference, Completions",
    Param("include_usage", _BOOL, default="false"),
    Param("include_obfuscation", _BOOL, default="true"),
)

# Names by which a body would steer a gateway behind us: its host, its credential, its fallbacks.
STEERING: Final = frozenset(
    {
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "base_url",
        "custom_llm_provider",
        "extra_body",
        "extra_headers",
        "extra_query",
        "fallbacks",
    }
)


def markdown(endpoint: Endpoint) -> str:
    """The parameters of an endpoint as a Markdown table."""
    head = "| name | JSON types | null | default | limits (strict only) | source |"
    rule = "|---|---|---|---|---|---|"
    return "\n".join([head, rule, *map(_row, TABLES[endpoint].values())]) + "\n"


def _row(param: Param) -> str:
    name = f"`{param.name}`" + (" (required)" if param.required else "")
    types = " or ".join(f"`{kind}`" for kind in param.types)
    default = f"`{param.default}`".replace("|", "\\|") if param.default else ""
    nullable = "yes" if param.nullable else "no"
    return f"| {name} | {types} | {nullable} | {default} | {param.limits()} | {param.source} |"
