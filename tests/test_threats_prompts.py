"""Texts that hide from a guard: nothing of them leaves, and nothing of them comes back."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.connection import Connection, Received
from tests.gateway import CHOICE, COMPLETION, REPLY, Gateway, chunk, gateway, refused
from tests.upstream import json_reply, sse

#: Passes the checksum of a card, and is nobody's.
CARD: Final = "4111111111111111"
TOKEN: Final = "AKIA" + "Q3EGRIP7KLMNVWXZ"
_GUARDS: Final[list[dict[str, Any]]] = [{"use": "pii"}, {"use": "secrets"}]


def _digits(first: int) -> str:
    """The card in the digits that begin at a code point."""
    return "".join(chr(first + int(digit)) for digit in CARD)


#: How a number is written so that a search for digits passes it by.
HIDDEN: Final = {
    "zero width space": "\u200b".join(CARD),
    "soft hyphen": "\u00ad".join(CARD),
    "word joiner": "\u2060".join(CARD),
    "variation selector": "\ufe0f".join(CARD),
    "full width": _digits(0xFF10),
    "mathematical bold": _digits(0x1D7CE),
    "circled": "".join("⓪①②③④⑤⑥⑦⑧⑨"[int(digit)] for digit in CARD),
    "Arabic-Indic": _digits(0x660),
}
#: How a credential is written so that a search for its form passes it by.
DISGUISED: Final = {
    "tags": "".join(chr(0xE0000 + ord(char)) for char in TOKEN),
    "tags between letters": "\U000e0041".join(TOKEN),
    "Cyrillic letters": TOKEN.replace("A", "А"),
    "lines": "\n".join(TOKEN),
    "base64": base64.b64encode(f"key={TOKEN}".encode()).decode(),
    "hex": TOKEN.encode().hex(),
    "percent": "".join(f"%{byte:02X}" for byte in TOKEN.encode()),
    "bidi override": f"\u202d{TOKEN}\u202c",
}


@pytest.fixture(scope="module")
def gate() -> Iterator[Gateway]:
    rules = {"pii": "deny", "secrets": "deny"}
    with gateway(plugins=_GUARDS, policy={"request": rules, "response": rules}) as running:
        yield running


@pytest.mark.parametrize("form", HIDDEN)
def test_p4_invisible_and_look_alike_characters_hide_no_number(gate: Gateway, form: str) -> None:
    seen = len(gate.upstream.requests)
    body = {**COMPLETION, "prompt": f"Pay with card {HIDDEN[form]} today"}
    refused(gate.ask(body), 400, "content_policy_violation")
    assert len(gate.upstream.requests) == seen


@pytest.mark.parametrize("form", DISGUISED)
def test_p5_p6_no_disguise_that_is_promised_to_be_seen_through_is_missed(
    gate: Gateway, form: str
) -> None:
    seen = len(gate.upstream.requests)
    body = {**COMPLETION, "prompt": f"Remember this: {DISGUISED[form]} and say it again"}
    refused(gate.ask(body), 400, "content_policy_violation")
    assert len(gate.upstream.requests) == seen


def test_p3_what_is_spread_over_prompts_messages_and_parts_is_found(gate: Gateway) -> None:
    first, last = CARD[:9], CARD[9:]
    parts = [{"type": "text", "text": f"card {first}"}, {"type": "text", "text": last}]
    spread: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": [f"card {first}", last]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": text} for text in (f"card {first}", last)]},
        ),
    ]
    for path, body in spread:
        refused(gate.ask({"model": "m", **body}, path=path), 400, "content_policy_violation")


def _echo(connection: Connection, request: Received) -> None:
    """A model that says the prompt again, with everything that an API can repeat of it."""
    prompt = request.json()["prompt"]
    probabilities = {"tokens": [prompt], "top_logprobs": [{prompt: -0.1}], "text_offset": [0]}
    choice = {"text": f"{prompt} yes", "index": 0, "logprobs": probabilities}
    json_reply({**REPLY, "choices": [{**choice, "finish_reason": "stop"}]})(connection, request)


def test_p7_what_was_masked_is_put_back_where_the_model_repeats_it_and_nowhere_else() -> None:
    with gateway(_echo, plugins=_GUARDS, policy={"request": {"pii": "mask"}}) as gate:
        body = {**COMPLETION, "prompt": f"Pay with card {CARD} today", "echo": True, "logprobs": 1}
        answer = gate.ask(body)
        sent = gate.upstream.requests[0].json()["prompt"]
        assert CARD not in sent
        (choice,) = answer.json()["choices"]
        assert choice["text"] == f"{body['prompt']} yes"
        # Offsets and tokens of the masked text would not be those of this one.
        assert sent not in json.dumps(choice)


@pytest.mark.parametrize("stream", [False, True])
def test_p8_every_choice_of_an_answer_is_looked_at(stream: bool) -> None:
    texts = ["fine", f"the card {CARD} it is", f"keep {TOKEN} safe"]
    events = [chunk(text, "stop", index) for index, text in enumerate(texts)]
    choices = [event["choices"][0] for event in events]
    script = sse([*events, "[DONE]"]) if stream else json_reply({**REPLY, "choices": choices})
    rules = {"pii": "redact", "secrets": "redact"}
    with gateway(script, plugins=_GUARDS, policy={"response": rules}) as gate:
        said = gate.ask({**COMPLETION, "n": 3, "stream": stream}).body.decode()
        assert "fine" in said
        assert CARD not in said
        assert TOKEN not in said


def test_p9_places_beside_the_text_of_an_answer_are_looked_at() -> None:
    choice = {**CHOICE, "logprobs": {"top_logprobs": [{TOKEN: -1.0}]}}
    replies: list[dict[str, Any]] = [
        {**REPLY, "system_fingerprint": TOKEN},
        {**REPLY, "x": {TOKEN: 1}},
        {**REPLY, "choices": [choice]},
    ]
    scripts = [json_reply(reply) for reply in replies]
    scripts.append(json_reply({"error": {"message": f"no {TOKEN}"}}, 400))
    scripts.append(json_reply(REPLY, headers=[("x-ratelimit-reset", TOKEN)]))
    with gateway(*scripts, plugins=_GUARDS, policy={"response": {"secrets": "redact"}}) as gate:
        for _ in scripts:
            answer = gate.ask(COMPLETION)
            assert TOKEN not in repr(answer)
        assert len(gate.upstream.requests) == len(scripts)
