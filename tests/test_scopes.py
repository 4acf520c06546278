"""``when`` fits a call only as a whole, and never means nobody or everybody by mistake."""

from typing import Any

import pytest

from proxy.errors import ConfigError
from proxy.scopes import When, check_endpoints, check_list, check_when, scope_of


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({}, True),
        ({"principals": ("ali*",)}, True),
        ({"principals": ("bob",)}, False),
        ({"groups": ("hr", "it")}, True),
        ({"groups": ("hr",)}, False),
        ({"models": ("gpt-?",), "endpoints": ("chat",)}, True),
        ({"models": ("gpt-?",), "endpoints": ("embeddings",)}, False),
    ],
)
def test_every_list_that_is_given_must_fit(when: dict[str, Any], fits: bool) -> None:
    covered = scope_of(When(**when)).covers("chat", "alice", ("it",), "gpt-4")
    assert covered is fits


def test_a_hook_narrows_the_endpoints_and_never_widens_them() -> None:
    both = scope_of(When(endpoints=("chat", "completions")), ("chat", "models"))
    assert [both.covers(name, "a", (), None) for name in ("chat", "completions", "models")] == [
        True, False, False,
    ]  # fmt: skip
    assert scope_of(When(), ("models",)).covers("models", "a", (), None)


def test_lists_that_say_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"x\.models is empty: name at least one"):
        check_when({"models": []}, "x")
    with pytest.raises(ConfigError, match="x holds an empty text"):
        check_list(["a", ""], "x")
    with pytest.raises(ConfigError, match=r"'chats' fits no endpoint\. Did you mean 'chat'"):
        check_endpoints(["*", "chats"], "x")
    check_when({"endpoints": ["c*"], "groups": ["g"]}, "x")
