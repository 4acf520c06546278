"""The queries of Portkey's conditional configs."""

import json
from typing import Any

import pytest

from proxy.testing import Harness, harness

OPTIONS = {"providers": {"yes": "yes", "no": "no"}}


def conditional(*conditions: Any, default: str | None = "no") -> dict[str, Any]:
    strategy = {"mode": "conditional", "conditions": list(conditions)}
    return {
        "strategy": {**strategy, **({"default": default} if default else {})},
        "targets": [{"name": "no", "provider": "no"}, {"name": "yes", "provider": "yes"}],
    }


def loaded(config: Any, metadata: Any = None) -> Harness:
    headers = {"x-portkey-config": json.dumps(config)}
    if metadata is not None:
        headers["x-portkey-metadata"] = json.dumps(metadata)
    return harness("portkey", **OPTIONS).given(headers=headers)


def query(asked: Any) -> dict[str, Any]:
    return conditional({"query": asked, "then": "yes"})


@pytest.mark.parametrize(
    ("asked", "met"),
    [
        ({"metadata.plan": "paid"}, True),
        ({"metadata.plan": {"$eq": "paid"}}, True),
        ({"metadata.plan": {"$eq": "free"}}, False),
        ({"metadata.plan": {"$ne": "free"}}, True),
        ({"metadata.other": {"$ne": "free"}}, True),
        ({"metadata.other": {"$eq": None}}, False),
        ({"metadata.plan": {"$in": ["free", "paid"]}}, True),
        ({"metadata.plan": {"$nin": ["free", "paid"]}}, False),
        ({"metadata.other": {"$nin": ["free"]}}, True),
        ({"metadata.age": {"$gt": 29}}, True),
        ({"metadata.age": {"$gt": 30}}, False),
        ({"metadata.age": {"$gte": "30", "$lt": 31}}, True),
        ({"metadata.age": {"$lte": 29.5}}, False),
        ({"metadata.plan": {"$gt": 0}}, False),
        ({"metadata.other": {"$lt": 0}}, False),
        ({"metadata.plan": {"$regex": "^pa"}}, True),
        ({"metadata.plan": {"$regex": "A"}}, False),
        ({"metadata.plan": {"$regex": "(?i)A"}}, True),
        ({"metadata.other": {"$regex": ".*"}}, False),
        ({"params.model": "fast"}, True),
        ({"params.temperature": {"$gt": 0.7}}, True),
        ({"params.n": 1}, True),
        ({"params.n": True}, False),
        ({"params.logprobs": True}, False),
        ({"params.stop": {"$length": 2}}, True),
        ({"params.stop": {"$length": {"$gt": 2}}}, False),
        ({"params.model": {"$length": 4}}, False),
        ({"url.pathname": "/v1/completions"}, True),
        ({"url.pathname": {"$regex": "chat"}}, False),
        ({"$and": [{"metadata.plan": "paid"}, {"params.model": "fast"}]}, True),
        ({"$and": [{"metadata.plan": "paid"}, {"params.model": "slow"}]}, False),
        ({"$or": [{"metadata.plan": "free"}, {"params.model": "fast"}]}, True),
        ({"$or": [{"metadata.plan": "free"}, {"$and": [{"params.model": "slow"}]}]}, False),
        # Several members of one object must all be so.
        ({"metadata.plan": "paid", "params.model": "slow"}, False),
        ({"$or": [{"metadata.plan": "paid"}], "params.model": "slow"}, False),
    ],
)
def test_a_query_is_answered_as_portkey_answers_it(asked: Any, met: bool) -> None:
    given = loaded(query(asked), {"plan": "paid", "age": "30"})
    result = given.completions(model="fast", temperature=0.8, n=1, logprobs=1, stop=["a", "b"])
    assert result.denied is None
    assert result.upstream == ("yes" if met else "no")


def test_the_first_condition_that_is_met_decides() -> None:
    config = conditional(
        {"query": {"params.model": "a"}, "then": "no"},
        {"query": {"params.model": {"$in": ["a", "b"]}}, "then": "yes"},
    )
    assert loaded(config).completions(model="a").upstream == "no"
    assert loaded(config).completions(model="b").upstream == "yes"


def test_a_call_that_meets_no_condition_is_refused_where_there_is_no_default() -> None:
    config = conditional({"query": {"params.model": "a"}, "then": "yes"}, default=None)
    denied = loaded(config).completions(model="b").denied
    assert denied is not None
    assert (denied.status, denied.code) == (400, "invalid_config")
    assert "no condition of config.strategy is met" in denied.message


@pytest.mark.parametrize("metadata", ["text", [1], 1, None])
def test_metadata_that_is_no_object_meets_no_condition(metadata: Any) -> None:
    assert loaded(query({"metadata.plan": "paid"}), metadata).completions().upstream == "no"


def test_nothing_is_found_in_a_text_that_is_too_long_to_search() -> None:
    asked = {"params.prompt": {"$regex": "x"}}
    assert loaded(query(asked)).completions(prompt="x" * 65_536).upstream == "yes"
    assert loaded(query(asked)).completions(prompt="x" * 65_537).upstream == "no"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (query({}), "conditions[0].query asks nothing"),
        (query("metadata.plan"), "asks nothing"),
        (query({"plan": "paid"}), "write metadata.NAME, params.NAME"),
        (query({"metadata": "paid"}), "write metadata.NAME, params.NAME"),
        (query({"headers.x": "paid"}), "write metadata.NAME, params.NAME"),
        (query({"url.query": "x"}), "write metadata.NAME, params.NAME"),
        (query({"metadata.plan": {}}), "compares nothing"),
        (query({"metadata.plan": {"$equal": "x"}}), "is no operator. Did you mean '$eq'?"),
        (query({"metadata.plan": {"$not": "x"}}), "There are: $eq, $gt"),
        (query({"metadata.plan": ["a"]}), "compared with a list"),
        (query({"metadata.plan": {"$eq": {"a": 1}}}), "compared with a list or an object"),
        (query({"metadata.plan": {"$in": "a"}}), "takes a list"),
        (query({"metadata.plan": {"$in": ["a"] * 257}}), "up to 256"),
        (query({"metadata.plan": {"$gt": "much"}}), "takes a number"),
        (query({"metadata.plan": {"$gt": True}}), "takes a number"),
        (query({"metadata.plan": {"$regex": 1}}), "up to 128 characters"),
        (query({"metadata.plan": {"$regex": "a" * 129}}), "up to 128 characters"),
        (query({"metadata.plan": {"$regex": "(a"}}), "cannot be used"),
        (query({"metadata.plan": {"$regex": r"(a)\1"}}), "it refers back to a group"),
        (query({"metadata.plan": {"$regex": "(?=a)"}}), "it looks ahead"),
        (query({"$and": []}), "no list of queries"),
        (query({"$or": {"metadata.plan": "x"}}), "no list of queries"),
        (query({"$and": [{"$or": [{}]}]}), "asks nothing"),
        (conditional(), "no list of 1 to 32 conditions"),
        (conditional({"query": {"params.n": 1}}), "then is the name of no target"),
        (conditional({"query": {"params.n": 1}, "then": "yess"}), "Did you mean 'yes'?"),
        (conditional({"query": {"params.n": 1}, "then": "yes", "else": "no"}), "unknown key 'else'"),
        (conditional({"query": {"params.n": 1}, "then": "yes"}, default="nope"), "default is the name"),
        ({"strategy": {"mode": "conditional"}, "targets": [{"provider": "no"}]}, "conditions"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_asked_is_refused(config: Any, said: str) -> None:
    denied = loaded(config).completions().denied
    assert denied is not None, said
    assert (denied.status, denied.code) == (400, "invalid_config")
    assert said in denied.message


def test_a_query_is_only_so_deep() -> None:
    asked: Any = {"params.n": 1}
    for _ in range(9):
        asked = {"$and": [asked]}
    denied = loaded(query(asked)).completions().denied
    assert denied is not None
    assert "8 levels" in denied.message


def test_a_pattern_takes_time_in_proportion_to_the_text() -> None:
    asked = {"params.prompt": {"$regex": "(x+x+)+y"}}
    assert loaded(query(asked)).completions(prompt="x" * 50_000).upstream == "no"
