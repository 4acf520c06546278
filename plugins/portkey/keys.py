"""The keys of a Portkey config: those that route, and those that are the operator's to set, with where."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

#: What a config and each of its targets may say.
NODE: Final = (
    "cache",
    "custom_host",
    "name",
    "override_params",
    "provider",
    "request_timeout",
    "retry",
    "strategy",
    "strict_open_ai_compliance",
    "targets",
    "virtual_key",
    "weight",
)
STRATEGY: Final = ("conditions", "default", "mode", "on_status_codes")
RETRY: Final = (
    "attempts",
    "on_status_codes",
    "use_retry_after_header",
    "use_retry_after_headers",  # as one page of their documentation writes it
)
CACHE: Final = ("max_age", "mode")
CONDITION: Final = ("query", "then")
#: The first that fits a key says where the operator sets it.
_OPERATORS: Final = (
    (
        r"(before|after)_request_hooks|(default_)?(input|output)_(guardrails|mutators)|guardrails|hooks",
        "what is looked for and refused stands in [policy] and [[plugins]]",
    ),
    (
        r"custom_host|url_to_fetch|\w*base_url|\w*_url|host|resource_name|deployment_id|api_version",
        "an address is the base_url of an [upstreams.NAME], and a name for it stands among the hosts of this plugin",
    ),
    (
        r"forward_headers",
        "the headers that an upstream gets are the pass_headers of its [upstreams.NAME]",
    ),
    (r"cb_config", "when an upstream is left alone is the breaker of its [upstreams.NAME]"),
    (r"metadata", "labels are sent in the header x-portkey-metadata"),
    (
        r"(openai|anthropic)_\w+",
        "such headers are sent as they are, and pass by the pass_headers of an [upstreams.NAME]",
    ),
    (
        r"api_key|\w*(auth|secret|token|credential|passw|access_key)\w*",
        "a key is the credential of an [upstreams.NAME]",
    ),
    (
        r"(aws|azure|vertex|amzn|workers_ai|stability|huggingface|fireworks|snowflake|cortex|oracle|mistral)_\w+",
        "how a provider is reached stands in its [upstreams.NAME]",
    ),
)
_WORD: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_LONGEST_SHOWN: Final = 48


class Refused(Exception):
    """A config, or a name, that is not taken; the message says what to do and never repeats a value."""

    def __init__(
        self, message: str, *, code: str = "invalid_config", param: str = "x-portkey-config"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


def fields_of(value: Any, place: str, known: Collection[str]) -> dict[str, Any]:
    """The members of an object, their keys in snake case, which is how Portkey reads them, too."""
    if not isinstance(value, Mapping):
        raise Refused(f"{place} is no object: write one, with {_listed(known)}.")
    fields: dict[str, Any] = {}
    for key, item in value.items():
        name = _WORD.sub(r"_\1", key).lower()
        if name not in known:
            raise _refusal(key, name, place, known)
        if name in fields:
            raise Refused(f"{place} says {name!r} twice: leave one out.")
        fields[name] = item
    return fields


def _operators(key: str) -> str | None:
    """Where the operator sets what ``key`` would, or None if it is no such key."""
    return next((where for pattern, where in _OPERATORS if re.fullmatch(pattern, key)), None)


def refused_host(place: str) -> Refused:
    """The refusal of an address that is not listed."""
    return _refusal("custom_host", "custom_host", place, NODE)


def nearest(name: str, known: Collection[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def _refusal(key: str, name: str, place: str, known: Collection[str]) -> Refused:
    shown = repr(key[:_LONGEST_SHOWN])
    if where := _operators(name):
        return Refused(f"leave out {shown} in {place}, which is the operator's to set: {where}.")
    return Refused(
        f"unknown key {shown} in {place}: leave out or correct it.{nearest(name, known)} Known there: {_listed(known)}."
    )


def _listed(known: Collection[str]) -> str:
    return ", ".join(sorted(known))
