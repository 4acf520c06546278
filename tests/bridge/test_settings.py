"""A bridge that contradicts itself, or could do nothing, stops the start."""

from typing import Any

import pytest

from proxy.bridge.settings import Bridge
from proxy.config import parse
from proxy.errors import ConfigError
from tests.gateway import document


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"system": "Go on."}, r'upstreams\.main: bridge\.system .*message = "continue"'),
        ({"suffix": "{prompt} only"}, r"must hold \{prompt\} and \{suffix\}, e\.g\."),
        ({"parallel": 0}, r"parallel = 0: write a number above zero"),
        ({"parts": -1}, r"parts = -1: write a number above zero"),
        ({"message": "continues"}, r"Did you mean 'continue'\?"),
        ({"paralel": 2}, r"unknown key 'bridge\.paralel' = 2\. Did you mean 'parallel'\?"),
        (
            {"max_completion_tokens": "gpt-5*"},
            r"bridge\.max_completion_tokens = .*: Expected array",
        ),
    ],
)
def test_a_bridge_that_will_not_do_is_refused_with_the_way_out(
    table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(document("http://127.0.0.1:9", "unused", upstream={"bridge": table}))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "max_tokens"),
        ("gpt-5-mini", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("olmo", "max_tokens"),
        (None, "max_tokens"),
    ],
)
def test_the_limit_goes_under_the_name_that_the_model_takes(model: str | None, name: str) -> None:
    assert Bridge().limit_name(model) == name


def test_an_operator_names_the_models_that_take_the_newer_name() -> None:
    assert Bridge(max_completion_tokens=("*",)).limit_name("any") == "max_completion_tokens"
    assert Bridge(max_completion_tokens=()).limit_name("gpt-5") == "max_tokens"
