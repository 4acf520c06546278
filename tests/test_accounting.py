"""What a record tells of the answer is what the upstream counted, and nothing it could not have counted."""

import pytest

from proxy import Record
from tests.gateway import COMPLETION, REPLY, gateway
from tests.upstream import json_reply


def recorded(usage: object) -> Record:
    with gateway(json_reply({**REPLY, "usage": usage})) as gate:
        assert gate.ask(COMPLETION).status == 200
        return gate.record()


def test_tokens_that_were_read_before_are_counted() -> None:
    record = recorded({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}})
    assert record.usage is not None
    assert (record.usage.prompt_tokens, record.usage.cached_tokens) == (9, 4)


@pytest.mark.parametrize(
    "details", [None, [], "4", {"cached_tokens": "4"}, {"cached_tokens": True}]
)
def test_what_is_no_count_is_left_out(details: object) -> None:
    record = recorded({"prompt_tokens": 9, "prompt_tokens_details": details})
    assert record.usage is not None
    assert record.usage.cached_tokens is None


def test_the_text_of_every_choice_is_counted() -> None:
    choices = [{"text": "abc", "index": 0}, {"text": "de", "index": 1}]
    with gateway(json_reply({**REPLY, "choices": choices})) as gate:
        gate.ask(COMPLETION)
        assert gate.record().completion_characters == len("abcde")


def test_the_first_byte_comes_before_the_last() -> None:
    with gateway() as gate:
        gate.ask(COMPLETION)
        record = gate.record()
    assert record.first_byte_seconds is not None
    assert 0 < record.first_byte_seconds <= record.seconds


def test_what_the_prices_make_of_the_tokens_stands_in_the_record() -> None:
    prices = [{"models": ["m"], "input": 2, "output": 10, "cached": 1}]
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    with gateway(json_reply({**REPLY, "usage": usage}), prices=prices) as gate:
        gate.ask(COMPLETION)
        assert gate.record().cost_nano == (5 * 2 + 4 * 1 + 2 * 10) * 1000


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -1}, {}])
def test_what_has_no_count_or_no_price_has_no_cost(usage: object) -> None:
    prices = [{"models": ["other"], "input": 2}]
    for table in (prices, [{"models": ["m"], "input": 2}]):
        with gateway(json_reply({**REPLY, "usage": usage}), prices=table) as gate:
            gate.ask(COMPLETION)
            cost = gate.record().cost_nano
            assert cost is None or (usage == {} and cost == 0)
