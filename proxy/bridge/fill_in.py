"""Completions with a suffix, for providers that fill it in on a route of its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from proxy import jsonio
from proxy.bridge.plan import DEFAULT_TOKENS, Part, Plan, counts_of, prompts_of, refuse, shifted
from proxy.bridge.settings import Bridge
from proxy.model import Call

#: Done here: such a route writes one choice for one prompt.
_OURS: Final = frozenset({"best_of", "echo", "max_tokens", "n", "prompt", "seed"})


def fills_in(call: Call, bridge: Bridge) -> bool:
    """Whether a call wants something filled in; a text of the operator's for that goes before any route."""
    return (
        call.endpoint == "completions" and bool(call.body.get("suffix")) and bridge.suffix is None
    )


def planned_fill_in(call: Call, bridge: Bridge) -> Plan:
    """The requests for a call with a suffix; raises ``InvalidRequest`` for what such a route cannot give."""
    body = call.body
    prompts = prompts_of(body.get("prompt"))
    n, candidates = counts_of(body)
    echo = body.get("echo") is True
    if candidates > n:
        rule = "With a suffix this model writes no more than is answered: leave out best_of."
        refuse(rule, "best_of", "bridge_cannot")
    if echo and body.get("logprobs") is not None:
        rule = "With a suffix there are no log-probabilities of the prompt: leave out echo or logprobs."
        refuse(rule, "echo", "bridge_cannot")
    if len(prompts) * n > bridge.parts:
        refuse(
            f"This call would become {len(prompts) * n} requests, and at most {bridge.parts} are sent for one call:"
            " send fewer prompts at once, or a smaller n.",
            "prompt", "bridge_cannot",
        )  # fmt: skip
    return Plan(
        id=f"cmpl-{call.id.removeprefix('req_')}",
        model=call.model or "",
        prompts=prompts,
        parts=tuple(
            Part(number, number, 1, jsonio.encode(one))
            for number, one in enumerate(_bodies(body, prompts, n))
        ),
        n=n,
        candidates=n,
        logprobs=body.get("logprobs"),
        echo=echo,
        usage=(body.get("stream_options") or {}).get("include_usage") is True,
    )


def _bodies(body: Mapping[str, Any], prompts: Iterable[Any], n: int) -> Iterator[dict[str, Any]]:
    """One request for each choice."""
    common = {key: value for key, value in body.items() if key not in _OURS}
    limit = body.get("max_tokens")
    common["max_tokens"] = DEFAULT_TOKENS if limit is None else limit
    for prompt in prompts:
        for number in range(n):
            one = {**common, "prompt": prompt}
            if "seed" in body:
                one["seed"] = None if body["seed"] is None else shifted(body["seed"], number)
            yield one
