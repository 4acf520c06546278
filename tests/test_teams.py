"""Teams inherit: who belongs to a team belongs to those above it, and may use what all of them may."""

import hashlib

import pytest

from proxy import Record
from proxy.errors import ConfigError
from proxy.teams import Team, Teams
from tests.gateway import COMPLETION, JSON, Answer, gateway, refused

TREE = {
    "company": {"models": ["m", "gpt-*"]},
    "research": {"parent": "company"},
    "search": {"parent": "research", "models": ["m", "secret-model"], "endpoints": ["completions"]},
}
SECRET = "bobs-key-0123456789"
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def asked(*groups: str, model: str = "m", chat: bool = False) -> tuple[Answer, Record]:
    """What a caller with these groups gets, and the record of it."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    key = {"name": "bob", "groups": list(groups), "sha256": digest}
    more = {"use": "static_keys", "name": "more", "options": {"keys": [key]}}
    headers = [JSON, ("Authorization", f"Bearer {SECRET}")]
    path = "/v1/chat/completions" if chat else "/v1/completions"
    with gateway(plugins=[more], teams=TREE) as gate:
        body = {**(CHAT if chat else COMPLETION), "model": model}
        return gate.ask(body, headers, path=path), gate.record()


def test_a_member_belongs_to_the_teams_above() -> None:
    answer, record = asked("search", "staff")
    assert answer.status == 200
    assert record.groups == ("search", "research", "company", "staff")


@pytest.mark.parametrize(
    ("groups", "model"),
    [(("search",), "secret-model"), (("search",), "gpt-4"), (("research",), "secret-model")],
)
def test_a_model_must_be_open_to_every_team_on_the_way_up(
    groups: tuple[str, ...], model: str
) -> None:
    answer, record = asked(*groups, model=model)
    error = refused(answer, 403, "model_not_allowed")
    assert error["param"] == "model"
    assert record.outcome == "denied"


def test_the_refusal_names_the_team_that_refuses() -> None:
    answer, _ = asked("search", model="secret-model")
    assert "'company'" in answer.error["message"]


def test_an_endpoint_must_be_open_too() -> None:
    answer, _ = asked("search", chat=True)
    refused(answer, 403, "endpoint_not_allowed")
    assert asked("research", chat=True)[0].status == 200


def test_who_is_in_no_team_is_not_limited() -> None:
    assert asked("staff", model="secret-model")[0].status == 200


@pytest.mark.parametrize(
    ("teams", "message"),
    [
        ({"a": Team(parent="b"), "beta": Team()}, "no team 'b'"),
        ({"a": Team(parent="b"), "b": Team(parent="a")}, "a → b → a never ends"),
        ({"a": Team(models=("",))}, "models is empty or holds"),
        ({"a": Team(models=())}, "models is empty or holds"),
        ({"a": Team(endpoints=("chatt",))}, "fits no endpoint. Did you mean 'chat'"),
        ({" ": Team()}, "needs a name"),
    ],
)
def test_a_tree_that_cannot_be_meant_stops_the_start(teams: dict[str, Team], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Teams(teams)
