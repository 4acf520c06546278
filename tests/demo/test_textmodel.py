import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.demo.models import text_model
from proxy.demo.textmodel import Sampling, Step, TextModel, dice

MODEL = text_model()
ENCODE = MODEL.tokenizer.encode


def write(prompt: str, limit: int = 16, *, seed: int = 0, **sampling: Any) -> list[Step]:
    return list(MODEL.write(ENCODE(prompt), limit, Sampling(**sampling), dice(seed), 3))


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_the_chances_of_all_tokens_add_up_to_one(text: str) -> None:
    spread = MODEL.spread(ENCODE(text))
    unseen = MODEL.tokenizer.size - len(spread)
    assert math.isclose(sum(spread.values()) + MODEL._rest * unseen, 1.0)


def test_a_text_has_the_same_log_probabilities_when_it_is_scored_as_when_it_was_written() -> None:
    written = write("The keeper of", 24)
    scored = list(MODEL.score(ENCODE("The keeper of"), [step.number for step in written], 3))
    assert scored == written


def test_the_first_token_of_all_has_no_log_probability() -> None:
    first, second = MODEL.score((), ENCODE("The keeper"), 2)
    assert first.logprob is None
    assert second.logprob is not None
    assert len(second.top) == 2


def test_temperature_zero_always_takes_the_likeliest_token() -> None:
    steps = write("Once upon a time", temperature=0)
    assert all(step.text == step.top[0][0] for step in steps)
    assert steps == write("Once upon a time", temperature=0, seed=99)


def test_other_prompts_get_other_words_even_at_temperature_zero() -> None:
    prompts = ("What is a letter?", "Where is the boat?", "Who wrote this?", "Why?")
    texts = {"".join(step.text for step in write(prompt, temperature=0)) for prompt in prompts}
    assert len(texts) > 1


def test_a_tiny_top_p_leaves_only_the_likeliest_token() -> None:
    assert write("The sea", top_p=0.0) == write("The sea", temperature=0)


def test_chance_is_the_same_for_the_same_facts() -> None:
    assert dice(1, "a").random() == dice(1, "a").random()
    assert dice(1, "a").random() != dice(2, "a").random()


def test_bias_forces_a_token_and_forbids_another() -> None:
    [harbour] = ENCODE(" harbour")
    forced = write("Say", 5, logit_bias={harbour: 100}, temperature=0)
    assert [step.text for step in forced] == [" harbour"] * 5
    [the] = ENCODE(" the")
    banned = write("The keeper of", 60, logit_bias={the: -100})
    assert " the" not in {step.text for step in banned}


def test_bias_reaches_even_a_token_that_the_documents_do_not_hold() -> None:
    [strange] = ENCODE("\u2603")
    assert write("Say", 1, logit_bias={strange: 100})[0].text == "\u2603"


def test_penalties_make_a_text_repeat_itself_less() -> None:
    def variety(**penalty: Any) -> int:
        prompts = ("The sea", "A letter", "If", "One day")
        texts = [write(prompt, 60, temperature=0, **penalty) for prompt in prompts]
        return sum(len({step.number for step in steps}) for steps in texts)

    assert variety(frequency_penalty=2.0) > variety() > variety(frequency_penalty=-2.0)
    assert variety(presence_penalty=2.0) > variety()


@pytest.mark.parametrize("goal", [" sea", " The", " gate", ",", "."])
@pytest.mark.parametrize("seed", range(6))
def test_a_text_with_a_goal_ends_where_the_goal_may_follow(goal: str, seed: int) -> None:
    [number] = ENCODE(goal)
    steps = write("Once upon a time", 24, seed=seed, goal=number, temperature=0.5)
    assert steps
    assert number in MODEL._after_one[steps[-1].number]


def test_the_fingerprint_is_that_of_the_documents() -> None:
    assert TextModel().fingerprint == MODEL.fingerprint
    assert TextModel(["The sea.", "The sky."]).fingerprint != MODEL.fingerprint
