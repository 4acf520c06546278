import json
from itertools import accumulate, chain, groupby
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.demo import completions
from proxy.demo.models import text_model
from proxy.demo.refusals import Refused
from tests.demo.conftest import Site

Json = dict[str, Any]


def ask(**body: Any) -> Json:
    return completions.whole(completions.read({"model": "demo-base", "prompt": "The sea"} | body))


def chunks(**body: Any) -> list[Json]:
    asked = {"model": "demo-base", "prompt": "The sea", "stream": True} | body
    return list(completions.streamed(completions.read(asked), 0))


def texts(reply: Json) -> list[str]:
    return [choice["text"] for choice in reply["choices"]]


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.one_of(
            st.none(),
            st.text(max_size=12),
            st.lists(st.text(max_size=12), min_size=1, max_size=3),
            st.lists(st.integers(0, 2000), min_size=1, max_size=5),
            st.lists(
                st.lists(st.integers(0, 2000), min_size=1, max_size=4), min_size=1, max_size=3
            ),
        ),
        "n": st.integers(1, 3),
        "echo": st.booleans(),
        "logprobs": st.integers(0, 5),
        "max_tokens": st.integers(0, 12),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "stop": st.one_of(st.sampled_from([" ", "e", "the"]), st.just([".", "r s", "a"])),
        "suffix": st.sampled_from([" The end.", "gate.", ", he said", "☃"]),
        "temperature": st.sampled_from([0, 0.5, 1, 2]),
        "top_p": st.sampled_from([0, 0.5, 1]),
        "presence_penalty": st.sampled_from([-2, 0, 2]),
        "logit_bias": st.just({"5": 10, "1114112": -3.5}),
    },
)


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_a_stream_tells_exactly_what_the_whole_reply_tells(body: Json) -> None:
    whole = ask(**body)
    *parts, last = chunks(**body, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    streamed = sorted((part["choices"][0] for part in parts), key=lambda one: one["index"])
    for index, group in groupby(streamed, key=lambda one: one["index"]):
        found, wanted = list(group), whole["choices"][index]
        assert "".join(one["text"] for one in found) == wanted["text"]
        assert [one["finish_reason"] for one in found[:-1]] == [None] * (len(found) - 1)
        assert found[-1]["finish_reason"] == wanted["finish_reason"] in ("stop", "length")
        for key in wanted["logprobs"] or ():
            pieces = chain.from_iterable(one["logprobs"][key] for one in found)
            assert list(pieces) == wanted["logprobs"][key]


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.integers(0, 5))
def test_choices_offsets_and_usage_add_up(body: Json, logprobs: int) -> None:
    body |= {"logprobs": logprobs}
    reply = ask(**body)
    asked = completions.read({"model": "demo-base", "prompt": "The sea"} | body)
    assert [one["index"] for one in reply["choices"]] == list(range(len(asked.prompts) * asked.n))
    prompt_tokens = sum(map(len, asked.prompts))
    usage = reply["usage"]
    assert usage["prompt_tokens"] == prompt_tokens
    assert usage["total_tokens"] == prompt_tokens + usage["completion_tokens"]
    listed = sum(len(one["logprobs"]["tokens"]) for one in reply["choices"])
    echoed = prompt_tokens * asked.n if asked.echo else 0
    assert listed - echoed <= usage["completion_tokens"]
    if not asked.stops:
        assert listed - echoed == usage["completion_tokens"]
    for choice in reply["choices"]:
        logs, text = choice["logprobs"], choice["text"]
        ends = list(accumulate(map(len, logs["tokens"])))
        assert logs["text_offset"] == [0, *ends][: len(ends)]
        assert "".join(logs["tokens"]).startswith(text)
        for token, chance, top in zip(
            logs["tokens"], logs["token_logprobs"], logs["top_logprobs"], strict=True
        ):
            assert (chance is None) == (top is None)
            assert top is None or (
                top[token] == chance < 0 and logprobs <= len(top) <= logprobs + 1
            )
    json.dumps(reply, allow_nan=False)


def test_a_plain_completion_has_the_documented_shape() -> None:
    reply = ask(model="gpt-3.5-turbo-instruct")
    assert reply["object"] == "text_completion"
    assert reply["id"].startswith("cmpl-")
    assert reply["model"] == "gpt-3.5-turbo-instruct"
    assert reply["system_fingerprint"].startswith("fp_")
    assert set(reply["choices"][0]) == {"text", "index", "logprobs", "finish_reason"}
    assert reply["usage"]["completion_tokens"] <= 16


def test_sixteen_tokens_are_the_default() -> None:
    assert max(ask(seed=seed)["usage"]["completion_tokens"] for seed in range(9)) == 16


def test_the_same_seed_gives_the_same_text_and_another_one_another() -> None:
    assert texts(ask(seed=7)) == texts(ask(seed=7))
    assert len({texts(ask(seed=seed))[0] for seed in range(6)}) > 1


def test_choices_differ_but_not_at_temperature_zero() -> None:
    assert len(set(texts(ask(n=5)))) > 1
    assert len(set(texts(ask(n=5, temperature=0)))) == 1


def test_each_prompt_gets_its_choices_in_order() -> None:
    both = texts(ask(prompt=["The sea", "A letter"], n=2))
    assert both == texts(ask(prompt="The sea", n=2)) + texts(ask(prompt="A letter", n=2))


def test_a_prompt_of_tokens_is_the_prompt_of_their_text() -> None:
    numbers = text_model().tokenizer.encode("The sea")
    assert texts(ask(prompt=list(numbers))) == texts(ask()) == texts(ask(prompt=[list(numbers)]))


def test_scoring_a_prompt_writes_nothing() -> None:
    [choice] = ask(echo=True, logprobs=1, max_tokens=0)["choices"]
    assert choice["text"] == "The sea"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][0] is None


def test_best_of_returns_the_likeliest_candidates_and_counts_them_all() -> None:
    def mean(choice: Json) -> float:
        chances = choice["logprobs"]["token_logprobs"]
        return float(sum(chances) / len(chances))

    every = ask(n=8, logprobs=0, max_tokens=8)
    best = ask(n=2, best_of=8, logprobs=0, max_tokens=8)
    ranked = sorted(every["choices"], key=mean, reverse=True)
    assert texts(best) == [choice["text"] for choice in ranked[:2]]
    assert best["usage"] == every["usage"]


def test_best_of_zero_asks_for_no_selection() -> None:
    assert texts(ask(best_of=0)) == texts(ask())


def test_a_stop_string_ends_the_text_before_itself() -> None:
    long = texts(ask(temperature=0, max_tokens=40))[0]
    stop = long[9:13]
    [choice] = ask(temperature=0, max_tokens=40, stop=stop)["choices"]
    assert choice["text"] == long[: long.index(stop)]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(("suffix", "end"), [(" sea is calm.", ""), ("sea is calm.", " ")])
def test_a_completion_leads_to_its_suffix(suffix: str, end: str) -> None:
    found = [ask(suffix=suffix, seed=seed)["choices"][0] for seed in range(8)]
    assert any(one["finish_reason"] == "stop" for one in found)
    assert all(one["text"].endswith(end) for one in found)
    after = text_model()._after_one
    [sea] = text_model().tokenizer.encode(" sea")
    lasts = [text_model().tokenizer.encode(one["text"].rstrip())[-1] for one in found]
    assert all(sea in after[last] for last in lasts)


def test_a_stream_without_usage_has_neither_the_key_nor_the_extra_chunk() -> None:
    for chunk in chunks(n=2):
        assert "usage" not in chunk
        assert len(chunk["choices"]) == 1


def test_a_stream_with_usage_says_null_until_the_last_chunk() -> None:
    *parts, last = chunks(stream_options={"include_usage": True})
    assert all(part["usage"] is None for part in parts)
    assert last["usage"]["total_tokens"] > 0
    assert {part["id"] for part in [*parts, last]} == {last["id"]}


def test_choices_interleave_in_a_stream() -> None:
    indices = [chunk["choices"][0]["index"] for chunk in chunks(n=2, max_tokens=4, temperature=0)]
    assert indices[:4] == [0, 1, 0, 1]


def test_obfuscation_makes_chunks_of_different_texts_equally_long() -> None:
    found = chunks(stream_options={"include_obfuscation": True})
    assert all(chunk["obfuscation"] for chunk in found)
    sizes = {len(json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))) for chunk in found}
    assert len(sizes) <= 2


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": []}, "prompt", "invalid_prompt"),
        ({"prompt": [[]]}, "prompt", "invalid_prompt"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_prompt"),
        ({"prompt": [1, "a"]}, "prompt", "invalid_prompt"),
        ({"prompt": [[1], "a"]}, "prompt", "invalid_prompt"),
        ({"prompt": [True]}, "prompt", "invalid_prompt"),
        ({"prompt": 7}, "prompt", "invalid_prompt"),
        ({"prompt": {"text": "a"}}, "prompt", "invalid_prompt"),
        ({"prompt": [-1]}, "prompt", "invalid_prompt"),
        ({"prompt": [10**12]}, "prompt", "invalid_prompt"),
        ({"prompt": "a" * 20_000}, "prompt", "context_length_exceeded"),
        ({"max_tokens": 16_384}, "prompt", "context_length_exceeded"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 1.0}, "max_tokens", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"n": 3, "best_of": 2}, "best_of", None),
        ({"best_of": 2, "stream": True}, "best_of", None),
        ({"best_of": 21}, "best_of", "integer_above_max_value"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"presence_penalty": 3}, "presence_penalty", "integer_above_max_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "integer_below_min_value"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
        ({"user": None}, "user", "invalid_type"),
        ({"echo": 1}, "echo", "invalid_type"),
        ({"suffix": ["x"]}, "suffix", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": [1]}, "stop", "invalid_type"),
        ({"stop": list("abcde")}, "stop", "array_above_max_length"),
        ({"stop": ""}, "stop", "empty_string"),
        ({"logit_bias": {"foo": 0}}, "logit_bias", None),
        ({"logit_bias": {"99999999": 0}}, "logit_bias", None),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "integer_above_max_value"),
        ({"logit_bias": {"1": "x"}}, "logit_bias.1", "invalid_type"),
        ({"logit_bias": []}, "logit_bias", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream": True, "stream_options": 1}, "stream_options", "invalid_type"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage", "invalid_type"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": None}, "model", None),
    ],
)
def test_a_wrong_value_is_refused_by_name(body: Json, param: str, code: str | None) -> None:
    with pytest.raises(Refused) as refused:
        ask(**body)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


def test_null_stands_for_the_default_and_unknown_keys_are_let_pass() -> None:
    names = set(completions.RULES) - {"user"} | {"stop", "prompt"}
    assert ask(prompt=None)["usage"]["prompt_tokens"] == 1
    assert texts(ask(**dict.fromkeys(names), min_p=0.1)) == texts(ask(prompt=None))


def test_the_python_client_reads_a_completion(site: Site) -> None:
    reply = site.sdk().completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Say this is a test", n=2, logprobs=2, echo=True
    )
    assert reply.choices[1].text.startswith("Say this is a test")
    assert reply.choices[1].logprobs
    assert reply._request_id
    assert reply._request_id.startswith("req_")


def test_the_python_client_reads_a_stream(site: Site) -> None:
    call: Json = {"model": "demo-instruct", "prompt": ["The sea", "A boat"], "seed": 3}
    whole = site.sdk().completions.create(**call)
    stream = site.sdk().completions.create(
        **call, stream=True, stream_options={"include_usage": True}
    )
    found = ["", ""]
    for chunk in stream:
        for choice in chunk.choices:
            found[choice.index] += choice.text
    assert found == [choice.text for choice in whole.choices]
    assert chunk.usage == whole.usage


def test_the_python_client_raises_the_errors_of_the_api(site: Site) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        site.sdk().completions.create(model="demo-base", prompt="x", n=2, best_of=1)
    assert refused.value.param == "best_of"
    with pytest.raises(openai.NotFoundError) as missing:
        site.sdk().completions.create(model="no-such-model", prompt="x")
    assert missing.value.code == "model_not_found"
