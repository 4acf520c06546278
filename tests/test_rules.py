"""Rules of the policy: for some calls only, with thresholds, and refused at the start where they could not act."""

import tomllib
from typing import Any, Final

import pytest

from proxy import Detector
from proxy.app import create_app
from proxy.chain import Trail
from proxy.config import parse
from proxy.errors import ConfigError
from proxy.model import Principal
from proxy.policy import Policy
from proxy.rules import PolicyTable, Rule, ScopedRules, rule_for
from proxy.scopes import When
from proxy.screen import Screen
from tests.gateway import COMPLETION, document, gateway
from tests.policing import CANARY, TICKET, call, review, screened, watch

GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
EMAIL: Final = Detector.regex("email", r"[a-z]{1,9}@[a-z]{1,9}\.example", groups=("refs",))
UNSURE: Final = Detector.regex("ticket", r"U-[0-9]{1,6}", groups=("refs",), confidence=0.5)


def shown(body: dict[str, Any], *watches: Any, **table: Any) -> str:
    """What became of a prompt: its new text, or "denied"."""
    result, _ = screened(body, *watches, **table)
    return "denied" if result.refusal else str(result.body["prompt"])


# -- rules for some calls --------------------------------------------------------------------------


def scoped(when: dict[str, Any], **sides: Any) -> ScopedRules:
    return ScopedRules(when=When(**{name: tuple(globs) for name, globs in when.items()}), **sides)


def test_the_first_entry_that_fits_decides_for_each_kind_and_the_rest_stands_beneath() -> None:
    table: dict[str, Any] = {
        "request": {"*": "deny"},
        "rules": (
            scoped({"models": ["other"]}, request={"*": "allow"}),
            scoped({"models": ["m"]}, request={"email": "monitor"}),
            scoped({"endpoints": ["completions"]}, request={"refs": "redact"}),
        ),
    }
    watches = watch(), watch(EMAIL), watch(Detector.regex("word", "bluebird"))
    assert shown({"prompt": "T-1 a@b.example"}, *watches, **table) == "[TICKET] a@b.example"
    assert shown({"prompt": "bluebird"}, *watches, **table) == "denied"
    assert shown({"prompt": "bluebird T-1", "model": "other"}, *watches, **table) == "bluebird T-1"


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({"principals": ["a"]}, True),
        ({"principals": ["b*"]}, False),
        ({"groups": ["g*"]}, True),
        ({"groups": ["h"]}, False),
        ({"models": ["m"], "endpoints": ["chat"]}, False),
        ({"models": ["m"], "endpoints": ["c*"]}, True),
    ],
)
def test_rules_for_some_calls_act_on_these_calls_and_on_both_sides(
    when: dict[str, Any], fits: bool
) -> None:
    table = PolicyTable(
        rules=(scoped(when, request={"ticket": "redact"}, response={"ticket": "deny"}),)
    )
    policy = Policy(table, [watch()])
    asked = call(prompt="T-1")
    asked = type(asked)(
        id="1", endpoint="completions", body=asked.body, model="m",
        principal=Principal("a", ("g1", "g2")),
    )  # fmt: skip
    result = Screen(policy).judge(asked, Trail())
    assert (result.refusal is None) is fits
    assert bool(policy.active(asked, "response")) is fits


def test_rules_for_some_callers_work_through_a_running_gateway() -> None:
    policy = {
        "request": {"canary": "deny"},
        "rules": [{"when": {"principals": ["alice"], "models": ["safe-*"]}, "request": {"canary": "mask"}}],
    }  # fmt: skip
    with gateway(plugins=[GUARD], policy=policy) as gate:
        assert gate.ask({**COMPLETION, "prompt": CANARY}).status == 400
        assert gate.ask({**COMPLETION, "prompt": CANARY, "model": "safe-1"}).status == 200
        (request,) = gate.upstream.requests
        assert CANARY.encode() not in request.body


# -- thresholds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "becomes"),
    [
        ("T-1 T-2", "T-1 T-2"),
        ("T-1 T-1 T-1 T-2", "T-1 T-1 T-1 T-2"),
        ("T-1 T-2 T-3", "denied"),
        ("T-1 a@b.example T-2", "denied"),
    ],
)
def test_what_is_counted_is_different_texts_of_all_kinds_that_the_rule_names(
    prompt: str, becomes: str
) -> None:
    rule = Rule(action="deny", at_least=3)
    assert shown({"prompt": prompt}, watch(), watch(EMAIL), request={"refs": rule}) == becomes


def test_fewer_get_another_action_which_is_to_monitor_by_default() -> None:
    rule = Rule(action="deny", at_least=2, otherwise="redact")
    assert shown({"prompt": "T-1"}, watch(), request={"ticket": rule}) == "[TICKET]"
    _, trail = screened(
        {"prompt": "T-1"}, watch(), request={"ticket": Rule(action="deny", at_least=2)}
    )
    assert [found.action for found in trail.findings] == ["monitor"]
    silent = Rule(action="deny", at_least=2, otherwise="allow")
    result, trail = screened({"prompt": "T-1"}, watch(), request={"ticket": silent})
    assert (result.refusal, trail.findings) == (None, [])
    assert shown({"prompt": "T-1 T-2"}, watch(), request={"ticket": silent}) == "denied"


def test_texts_are_counted_over_the_whole_call() -> None:
    rule = Rule(action="mask", at_least=2)
    result, _ = screened({"prompt": ["T-1", "T-2"]}, watch(), request={"ticket": rule})
    assert "T-" not in repr(result.body)
    apart = {"ticket": rule, "email": Rule(action="mask", at_least=2)}
    assert shown({"prompt": "T-1 a@b.example"}, watch(), watch(EMAIL), request=apart) == (
        "T-1 a@b.example"
    )


def test_a_monitored_plugin_neither_acts_nor_counts() -> None:
    rule = Rule(action="deny", at_least=2)
    rules = {"refs": rule}
    prompt = "T-1 a@b.example"
    assert shown({"prompt": prompt}, watch(), watch(EMAIL), request=rules) == "denied"
    assert shown({"prompt": prompt}, watch(monitor=True), watch(EMAIL), request=rules) == prompt


def test_a_rule_may_ask_for_surer_detectors_than_the_policy_does() -> None:
    rule = Rule(action="deny", confidence=0.8, otherwise="redact")
    assert shown({"prompt": "T-1"}, watch(), watch(UNSURE), request={"ticket": rule}) == "denied"
    assert shown({"prompt": "U-1"}, watch(), watch(UNSURE), request={"ticket": rule}) == "[TICKET]"
    reviewed = review(watch(), watch(UNSURE), ticket=rule)
    assert reviewed.whole({"text": "U-1"})[0] == {"text": "[TICKET]"}
    assert reviewed.whole({"text": "T-1"})[1] is not None
    both = Rule(action="deny", confidence=0.8, at_least=2)
    assert shown({"prompt": "U-1 T-1"}, watch(), watch(UNSURE), request={"ticket": both}) == (
        "U-1 T-1"
    )


def test_a_rule_says_itself_in_a_line() -> None:
    assert repr(Rule(action="deny", at_least=5, confidence=0.8)) == (
        "deny if confidence 0.8 and at least 5, else monitor"
    )
    assert repr(Rule(action="deny")) == "deny"
    assert rule_for([{}, {"refs": "mask"}], TICKET, "deny") == "mask"


# -- what stops the start --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("confidence = 1.5", "policy.confidence = 1.5: write a number from 0 to 1"),
        ("request.t = { action = 'dney' }", "policy.request.t.action = 'dney': write one of"),
        ("request.t = { actoin = 'deny' }", "'policy.request.t.actoin' = 'deny'. Did you mean 'action'?"),
        ("request.t = { at_least = 2 }", "policy.request.t: Object missing required field action"),
        ("request.t = { action = 'deny' }", 'add confidence or at_least, or write "deny" instead'),
        ("request.t = { action = 'deny', at_least = 0 }", "policy.request.t.at_least = 0: write a number above zero"),
        ("request.t = { action = 'deny', confidence = 2 }", "policy.request.t.confidence = 2.0: write a number from"),
        ("response.t = { action = 'deny', at_least = 2 }", "policy.response.t.at_least: only requests are counted"),
        ("rules = [{ request = { t = 'deny' } }]", "policy.rules[0]: Object missing required field when"),
        ("rules = [{ when = {}, request = { t = 'deny' } }]", "policy.rules[0].when is empty, so it fits every call"),
        ("rules = [{ when = { models = [] }, request = { t = 'deny' } }]", "policy.rules[0].when.models is empty"),
        ("rules = [{ when = { models = ['m'] } }]", "policy.rules[0] has no rules: add request"),
        ("rules = [{ when = { endpoints = ['chats'] }, request = { t = 'deny' } }]", "'chats' fits no endpoint"),
        ("rules = [{ when = { models = ['m'] }, request = { t = 'dney' } }]", "rules[0].request.t = 'dney': write one"),
        ("rules = [{ when = { models = ['m'] }, reqest = { t = 'deny' } }]", "Did you mean 'request'?"),
        ("conversation = { header = 'cookie', key = { env = 'LONG' } }", "conversation.header: 'cookie' is not passed"),
        ("conversation = { header = 'a b', key = { env = 'LONG' } }", "'a b' is not the name of a header"),
        ("conversation = { header = 'x-c', key = { env = 'SHORT' } }", "key holds fewer than 16 characters"),
        ("conversation = { header = 'x-c', key = 'in the file' }", 'policy.conversation.key: write { env = "NAME" }'),
        ("conversation = { header = 'x-c' }", "policy.conversation: Object missing required field key"),
    ],
)  # fmt: skip
def test_a_rule_that_could_not_act_is_refused_with_the_way_out(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONG", "k" * 32)
    monkeypatch.setenv("SHORT", "k" * 12)
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(f"[policy]\n{text}"), "c.toml")
    assert str(caught.value).startswith("c.toml")
    assert words in str(caught.value)


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_kind_that_nobody_detects_is_refused_in_every_table(side: str) -> None:
    entry = {"when": {"models": ["m"]}, side: {"canarry": "deny"}}
    made = document("http://127.0.0.1:1", "none", plugins=[GUARD], policy={"rules": [entry]})
    with pytest.raises(ConfigError, match="Did you mean 'canary'") as caught:
        create_app(parse(made))
    assert f"policy.rules[0].{side}.canarry: no loaded plugin detects" in str(caught.value)
