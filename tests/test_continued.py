"""A chunk that continues the one before is looked at in a shorter way, with the same result."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.continued import Continued, says_nothing, split
from proxy.streaming import StreamReview
from tests.policing import review
from tests.test_streaming import ALL, TEXTS, WATCHES, sent, text_of

_BESIDE: Final[list[dict[str, Any]]] = [
    {"index": 0, "finish_reason": None},
    {"index": 0, "finish_reason": None, "logprobs": None},
    {"index": 1, "finish_reason": None},
    {"index": 0, "finish_reason": "stop"},
    {"index": 0, "finish_reason": None, "note": "T-12"},
    {"index": 0, "finish_reason": None, "logprobs": {"tokens": ["a"]}},
]
_AROUND: Final[list[dict[str, Any]]] = [
    {"id": "c", "model": "m"},
    {"id": "c", "model": "m", "usage": None},
    {"id": "c", "model": "m", "usage": {"prompt_tokens": 1}},
    {"id": "c", "model": "T-12"},
]


def chunks(parts: list[tuple[str, int, int]], *, alike: bool, delta: bool) -> list[Any]:
    """Chunks of these texts; where they are not alike, none continues the one before."""
    found = []
    for number, (text, beside, around) in enumerate(parts):
        said: dict[str, Any] = {"delta": {"content": text}} if delta else {"text": text}
        choice = {**_BESIDE[beside], **said}
        found.append({**_AROUND[around], "created": 1 if alike else number, "choices": [choice]})
    return found


def reviewed(payloads: list[Any]) -> tuple[Any, ...]:
    """What a reader gets of each choice, and whether the stream was refused."""
    stream = StreamReview(review(*WATCHES, **ALL))
    shown = sent(stream, payloads)
    endpoint: Any = "chat" if "delta" in payloads[0]["choices"][0] else "completions"
    texts = tuple(text_of(shown, endpoint, index) for index in (0, 1))
    around = [{k: v for k, v in one.items() if k not in ("created", "choices")} for one in shown]
    return texts, stream.refusal, stream.removed, around


@given(
    st.lists(
        st.tuples(TEXTS, st.sampled_from([0, 0, 0, *range(6)]), st.sampled_from([0, 0, 0, *range(4)])),
        min_size=1, max_size=12,
    ),
    st.booleans(),
)  # fmt: skip
def test_what_is_shown_does_not_depend_on_whether_chunks_are_alike(parts: Any, delta: bool) -> None:
    one, other = (reviewed(chunks(parts, alike=alike, delta=delta)) for alike in (True, False))
    assert one == other


@pytest.mark.parametrize(
    "choice",
    [
        None, [], {"index": 0}, {"index": 0, "text": None}, {"index": 0, "text": 5}, {"index": 0, "text": ["a"]},
    ],
)  # fmt: skip
def test_a_choice_without_a_text_continues_nothing(choice: Any) -> None:
    assert split(choice, ("text",)) is None


@pytest.mark.parametrize(
    "delta",
    [None, "a", {}, {"role": "assistant"}, {"content": None}, {"content": "a", "role": "b"}],
)
def test_a_delta_that_says_anything_beside_its_text_continues_nothing(delta: Any) -> None:
    assert split({"index": 0, "delta": delta}, ("delta", "content")) is None


def test_only_numbers_and_nothing_are_nothing_said() -> None:
    assert says_nothing({"index": 0, "logprobs": None})
    values: list[Any] = ["", "a", True, 1.5, {}, []]
    for value in values:
        assert not says_nothing({"index": 0, "x": value})


def test_what_stands_around_must_be_the_same() -> None:
    first = {"id": "c", "choices": [{"index": 0, "text": "a"}]}
    field = review(*WATCHES, **ALL).field(("choices", 0, "text"))
    last = Continued({"id": "c"}, {"index": 0}, {"index": 0, "text": "a"}, 0, ("text",), field)
    assert last.text(first) == "a"
    assert last.text({**first, "id": "d"}) is None
    assert last.text({**first, "more": "x"}) is None
    assert last.text({"id": "c", "choices": [*first["choices"], *first["choices"]]}) is None
    assert last.text({"id": "c"}) is None
    assert last.with_text("b") == {"index": 0, "text": "b"}
