"""The first route that fits decides, and its upstreams are tried in order."""

from typing import Any

import pytest

from proxy.config import Route
from proxy.frozen import FrozenDict
from proxy.model import Call, Principal
from proxy.records import Failure
from proxy.routes import Routes

ROUTES = Routes(
    [
        Route(upstreams=("vectors",), endpoints=("embeddings",)),
        Route(upstreams=("first", "second"), models=("gpt-*", "o?")),
        Route(upstreams=("rest",), models=("*",), endpoints=("chat", "completions")),
    ]
)


def call(model: str | None, endpoint: Any = "chat") -> Call:
    return Call(id="1", endpoint=endpoint, body=FrozenDict(), principal=Principal("a"), model=model)


def chosen(call: Call, failures: tuple[Failure, ...] = ()) -> str | None:
    choice = ROUTES.choose(call, failures)
    return choice.upstream if choice else None


@pytest.mark.parametrize(
    ("model", "endpoint", "upstream"),
    [
        ("gpt-4", "chat", "first"),
        ("o3", "completions", "first"),
        ("o30", "chat", "rest"),
        ("GPT-4", "chat", "rest"),
        ("gpt-4", "embeddings", "vectors"),
        ("llama", "model", None),
        ("gpt-4\nx", "chat", "first"),
        ("", "chat", "rest"),
        (None, "chat", "rest"),
    ],
)
def test_the_first_route_that_fits_decides(
    model: str | None, endpoint: str, upstream: str | None
) -> None:
    assert chosen(call(model, endpoint)) == upstream


def test_the_list_of_models_is_answered_by_the_first_route_for_it() -> None:
    assert chosen(call(None, "models")) == "first"


def test_an_upstream_that_failed_is_followed_by_the_next_and_no_other_route() -> None:
    failed = (Failure("first", "connect", "refused"),)
    assert chosen(call("gpt-4"), failed) == "second"
    both = (*failed, Failure("second", "connect", "refused"))
    assert chosen(call("gpt-4"), both) is None


def test_without_routes_nothing_is_chosen() -> None:
    assert Routes([]).choose(call("gpt-4"), ()) is None
