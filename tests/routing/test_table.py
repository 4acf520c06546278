"""``[[routes]]``: what is written becomes a tree, and every mistake stops the start with the way out."""

import tomllib
from typing import Any, Final

import pytest

from proxy import Balance, ConfigError, Fallback, Retry, Target
from proxy.config import Loaded, parse
from proxy.routing.table import Route, shown_upstreams, shown_when, way_of

UPSTREAMS: Final = "[upstreams.main]\nprovider='x'\n[upstreams.spare]\nprovider='x'\n[[routes]]\n"


def parsed(route: str) -> Loaded:
    return parse(tomllib.loads(UPSTREAMS + route), "outgate.toml")


def read(route: str) -> Route:
    """The route that is written so."""
    return parsed(route).config.routes[0]


def test_names_alone_are_tried_in_order_where_nothing_can_have_arrived() -> None:
    way = way_of(read("upstreams = ['main', 'spare']"))
    assert way == Fallback((Target("main"), Target("spare")), frozenset())
    assert way_of(read("upstreams = ['main']")) == Target("main")


def test_a_fallback_says_for_what_it_goes_on() -> None:
    way = way_of(read("upstreams = ['main', 'spare']\non = [429, 500]\nunanswered = true"))
    assert way == Fallback((Target("main"), Target("spare")), frozenset({429, 500}), True)


def test_every_target_is_retried_as_the_route_says() -> None:
    route = read(
        "upstreams = ['main', 'spare']\nunanswered = true\n"
        "retry = { attempts = 2, on = [503], base = 1, most = 2.5, patience = 9 }"
    )
    retry = Retry(2, frozenset({503}), True, 1.0, 2.5, 9.0)
    targets = Target("main", retry=retry), Target("spare", retry=retry)
    assert way_of(route) == Fallback(targets, frozenset(), True)
    assert way_of(read("upstreams = ['main']\nretry = {}")) == Target("main", retry=Retry(3))


def test_weights_are_one_where_none_is_given() -> None:
    route = read(
        "strategy = 'balance'\non = [500]\n"
        "upstreams = [{ upstream = 'main', weight = 3, model = 'large' }, 'spare']"
    )
    large = Target("main", {"model": "large"})
    assert way_of(route) == Balance(((3.0, large), (1.0, Target("spare"))), on=frozenset({500}))


def test_a_table_says_how_its_upstream_is_asked() -> None:
    route = read(
        "upstreams = [{ upstream = 'main', timeout = 2.5, body = { temperature = 0, stop = ['a'] } }]"
    )
    assert way_of(route) == Target("main", {"temperature": 0, "stop": ["a"]}, 2.5)
    assert way_of(route, bodies=False) == Target("main", {}, 2.5)


def table(keys: str, more: str = "") -> str:
    return f"upstreams = [{{ upstream = 'main', {keys} }}, 'spare']\n{more}"


BALANCE: Final = "strategy = 'balance'"
MISTAKES: Final[dict[str, str]] = {
    "upstreams = [{ upstream = 'mian' }]": "routes[0].upstreams: no upstream 'mian'. Did you mean 'main'?",
    "upstreams = ['main', 'spare']\nstrategy = 'balanced'": "Did you mean 'balance'?",
    "upstreams = [{ name = 'main' }]": "unknown key 'routes[0].upstreams[0].name'",
    "upstreams = [{ upstream = 'main', wieght = 1 }]": "Did you mean 'weight'?",
    "upstreams = [{ weight = 1 }]": "missing required field upstream",
    table("weight = 2"): 'weights need strategy = "balance"',
    table("weight = -1", BALANCE): "weights [-1.0, 1.0]: write numbers",
    table("weight = nan", BALANCE): "weights [nan, 1.0]: write numbers",
    "strategy='balance'\nupstreams=[{upstream='main',weight=0},{upstream='spare',weight=0}]":
        "routes[0]: every weight is 0",
    table("model = ''"): "upstreams[0].model is empty",
    table("model = 'a', body = { model = 'b' }"): "model stands beside body.model: remove one",
    table("timeout = 0"): "upstreams[0]: timeout = 0.0: write seconds above zero",
    table("timeout = inf"): "timeout = inf",
    table("body = { messages = [] }"): "sets 'messages', which is the same for every upstream",
    table("body = { stream = true }"): "sets 'stream'",
    table("body = { temperature = 'hot' }"):
        "upstreams[0].body, for completions: Invalid type for 'temperature'",
    table("body = { Temperature = 1 }"): "Write it as 'temperature'.",
    table("body = { api_base = 'https://a.example' }"): "The operator chooses the upstream",
    "upstreams = ['main', 'spare']\non = [200]": "routes[0]: fallback: on holds 200",
    "upstreams = ['main', 'spare']\non = ['500']": "Expected int",
    "upstreams = ['main']\non = [500]": "routes[0].on: it does nothing for one upstream",
    "upstreams = ['main']\nstrategy = 'balance'": "routes[0].strategy: it does nothing for one",
    "upstreams = ['main']\nunanswered = true": "routes[0].unanswered: it does nothing for one",
    "upstreams = ['main']\nretry = { attempts = 1 }": "is one try, as without it",
    "upstreams = ['main']\nretry = { attempts = 0 }": "routes[0]: retry: attempts = 0",
    "upstreams = ['main']\nretry = { on = [302] }": "routes[0]: retry: on holds 302",
    "upstreams = ['main']\nretry = { base = -1 }": "retry: base = -1.0: write seconds, 0 or more",
    "upstreams = ['main']\nretry = { tries = 2 }": "unknown key 'routes[0].retry.tries'",
    "upstreams = ['main', 'spare']\nsticky = 'key'": 'write strategy = "balance" beside it',
    f"upstreams = ['main', 'spare']\n{BALANCE}\nsticky = 'kez'": "Did you mean 'key'?",
    "upstreams = ['main']\nwhen = { group = ['a'] }": "Did you mean 'groups'?",
    "upstreams = ['main']\nwhen = { groups = [] }": "routes[0].when.groups is empty",
    "upstreams = ['main']\nwhen = { endpoints = ['chats'] }": "Did you mean 'chat'?",
    "upstreams = ['main']\nwhen = { metadata = { tier = [] } }": "when.metadata.tier is empty",
    "upstreams = ['main']\nwhen = { metadata = { tier = 'gold' } }": "Expected array",
    "upstreams = ['']": "routes[0].upstreams holds an empty text",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_every_mistake_stops_the_start_with_the_way_out(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith("outgate.toml: ")
    assert MISTAKES[text] in str(caught.value)


def test_a_body_is_checked_for_the_endpoints_of_its_route_only() -> None:
    text = "endpoints = ['embeddings']\n" + table("body = { dimensions = 'many' }")
    with pytest.raises(ConfigError, match="for embeddings"):
        parsed(text)
    parsed("endpoints = ['chat']\n" + table("body = { dimensions = 'many' }"))


@pytest.mark.parametrize(
    ("route", "shown"),
    [
        ("upstreams = ['main', 'spare']", "main, spare"),
        (table("model = 'large'"), "main as large, spare"),
        (table("weight = 3", BALANCE), "main 75 %, spare 25 %"),
        (table("weight = 0, model = 'x'", BALANCE), "main as x 0 %, spare 100 %"),
    ],
)
def test_upstreams_are_shown_in_order_or_with_their_shares(route: str, shown: str) -> None:
    assert shown_upstreams(read(route)) == shown


def test_conditions_are_shown_as_they_are_written() -> None:
    when: Any = "when = { groups = ['a', 'b'], metadata = { tier = ['gold'] } }"
    assert shown_when(read(f"upstreams = ['main']\n{when}")) == "groups a|b and metadata.tier gold"
    assert shown_when(read("upstreams = ['main']")) == "always"
