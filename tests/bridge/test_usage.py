"""What several chats cost together."""

from proxy.bridge.usage import total


def test_every_number_is_summed_details_too() -> None:
    one = {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 4}, "cost": 0.5}
    other = {"prompt_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 5, "x": None}}
    assert total([one, other]) == {
        "prompt_tokens": 3,
        "completion_tokens_details": {"reasoning_tokens": 9, "x": None},
        "cost": 0.5,
    }


def test_details_that_only_some_give_are_kept() -> None:
    assert total([{"a": None}, {"a": {"b": 1}}, {"c": True}, {"c": {}}]) == {
        "a": {"b": 1},
        "c": True,
    }


def test_a_sum_that_would_leave_one_out_is_none() -> None:
    assert total([{"prompt_tokens": 1}, None]) is None
    assert total([]) is None
