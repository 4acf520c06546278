"""The first route that fits decides, and its upstreams are tried in order."""

from typing import Any

import pytest

from proxy.frozen import FrozenDict
from proxy.model import Call, Principal
from proxy.records import Failure
from proxy.routes import Routes
from proxy.routing.table import Route, RouteWhen, TargetEntry

ROUTES = Routes(
    [
        Route(upstreams=("vectors",), endpoints=("embeddings",)),
        Route(upstreams=("first", "second"), models=("gpt-*", "o?")),
        Route(upstreams=("rest",), models=("*",), endpoints=("chat", "completions")),
    ]
)


def call(model: str | None, endpoint: Any = "chat", **fields: Any) -> Call:
    known = {"id": "1", "principal": Principal("a"), **fields}
    return Call(endpoint=endpoint, body=FrozenDict(), model=model, **known)


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


def one(when: RouteWhen, caller: Principal, model: str = "m", endpoint: Any = "chat") -> bool:
    """Whether a route with this condition is for a call."""
    routes = Routes([Route(upstreams=("a",), when=when)])
    return routes.choose(call(model, endpoint, principal=caller), ()) is not None


ALICE = Principal("alice", ("search", "staff"), FrozenDict(tier="gold", city="Bonn"))


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        (RouteWhen(principals=("ali*",)), True),
        (RouteWhen(principals=("bob",)), False),
        (RouteWhen(groups=("hr", "staff")), True),
        (RouteWhen(groups=("hr",)), False),
        (RouteWhen(models=("gpt-*",)), False),
        (RouteWhen(models=("m",), endpoints=("chat",)), True),
        (RouteWhen(endpoints=("embeddings",)), False),
        (RouteWhen(metadata={"tier": ("silver", "gold")}), True),
        (RouteWhen(metadata={"tier": ("g*",), "city": ("B*",)}), True),
        (RouteWhen(metadata={"tier": ("gold",), "city": ("Köln",)}), False),
        (RouteWhen(metadata={"floor": ("*",)}), False),
        (RouteWhen(principals=("alice",), metadata={"tier": ("silver",)}), False),
    ],
)
def test_a_route_with_a_condition_is_for_the_calls_that_meet_all_of_it(
    when: RouteWhen, fits: bool
) -> None:
    assert one(when, ALICE) is fits


def test_a_caller_of_whom_nothing_is_known_meets_no_condition_on_metadata() -> None:
    assert not one(RouteWhen(metadata={"tier": ("*",)}), Principal("nobody"))


def test_the_list_of_models_is_asked_for_no_glob_of_models() -> None:
    assert one(RouteWhen(models=("gpt-*",)), ALICE, endpoint="models")
    assert not one(RouteWhen(models=("gpt-*",)), ALICE, endpoint="model")


def starts(sticky: Any, calls: list[Call]) -> list[str]:
    """Where these calls begin, among many upstreams of one weight."""
    upstreams = tuple(f"u{number}" for number in range(50))
    routes = Routes([Route(upstreams=upstreams, strategy="balance", sticky=sticky)])
    choices = [routes.choose(one, ()) for one in calls]
    return [choice.upstream for choice in choices if choice]


def calls(name: str, key: str | None) -> list[Call]:
    metadata = FrozenDict() if key is None else FrozenDict(key=key)
    who = Principal(name, (), metadata)
    return [call("m", id=f"req_{name}{key}{number}", principal=who) for number in range(20)]


def test_without_sticky_every_call_is_drawn_anew() -> None:
    assert len(set(starts(None, calls("alice", "k1")))) > 5


def test_sticky_calls_of_one_principal_or_key_begin_at_one_upstream() -> None:
    assert len(set(starts("principal", [*calls("alice", "k1"), *calls("alice", "k2")]))) == 1
    by_key = [set(starts("key", calls("alice", f"k{number}"))) for number in range(20)]
    assert all(len(found) == 1 for found in by_key)
    assert len(set.union(*by_key)) > 5
    assert starts("key", calls("bob", None)) == starts("principal", calls("bob", None))


def test_a_target_renames_the_model_except_where_there_is_no_body() -> None:
    entry = TargetEntry(upstream="a", model="large", timeout=3.0, body={"user": "x"})
    routes = Routes([Route(upstreams=(entry,))])
    choice = routes.choose(call("m"), ())
    assert choice is not None
    assert (choice.body, choice.timeout) == ({"user": "x", "model": "large"}, 3.0)
    for endpoint in ("models", "model"):
        bare = routes.choose(call("m", endpoint), ())
        assert bare is not None
        assert (bare.body, bare.timeout) == ({}, 3.0)
