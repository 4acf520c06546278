"""What Portkey's configs may say here, and how the rest is refused."""

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.portkey import Portkey
from plugins.portkey.keys import CONDITION, NODE, RETRY, STRATEGY
from proxy import Call, Choice, ConfigError, Deny, Failure, Principal
from proxy.results import bad_choice
from proxy.testing import Harness, Result, harness
from tests.pages import DOCS, blocks

OPTIONS: dict[str, Any] = {
    "providers": {"openai": "main", "@spare": "spare"},
    "virtual_keys": {"main-key": "main", "spare-key": "spare"},
    "hosts": {"https://llm.example.com/v1": "local"},
}
PAGE = DOCS / "portkey.md"
HOOK = {"type": "guardrail", "id": "g"}


def loaded(config: Any, **headers: str) -> Harness:
    named = {f"x-portkey-{name.replace('_', '-')}": value for name, value in headers.items()}
    text = config if isinstance(config, str) else json.dumps(config)
    return harness("portkey", **OPTIONS).given(headers={"x-portkey-config": text, **named})


def message(config: Any) -> str:
    """How a call with this config is refused."""
    text = config if isinstance(config, str) else json.dumps(config)
    headers = {"x-portkey-config": text}
    call = Call(id="1", endpoint="chat", body={}, principal=Principal("alice"), headers=headers)
    denied = Portkey(**OPTIONS).guard_request(call)
    assert denied is not None, config
    assert (denied.status, denied.code, denied.param) == (400, "invalid_config", "x-portkey-config")
    assert denied == Portkey(**OPTIONS).choose_upstream(call, ())
    return denied.message


def choice(config: Any, *failures: Failure, endpoint: Any = "completions", **call: Any) -> Any:
    """What the plugin chooses for a call with this config."""
    headers = {"x-portkey-config": json.dumps(config)}
    if metadata := call.pop("metadata", None):
        headers["x-portkey-metadata"] = json.dumps(metadata)
    asked = Call(
        id="req_1", endpoint=endpoint, body=call, principal=Principal("alice"), headers=headers
    )
    return Portkey(**OPTIONS).choose_upstream(asked, failures)


def fallback(*targets: Any, **more: Any) -> dict[str, Any]:
    return {"strategy": {"mode": "fallback", **more}, "targets": list(targets)}


MAIN = {"virtual_key": "main-key"}
SPARE = {"virtual_key": "spare-key"}


@pytest.mark.parametrize(
    ("config", "upstream"),
    [
        ({"provider": "openai"}, "main"),
        ({"strategy": {"mode": "single"}, "provider": "openai"}, "main"),
        ({"strategy": {"mode": "single"}, "targets": [SPARE, MAIN]}, "spare"),
        ({"provider": "openai", "virtual_key": "spare-key"}, "spare"),
        ({"custom_host": "https://llm.example.com/v1/"}, "local"),
        ({"provider": "openai", "retry": {"attempts": 3}}, "main"),
        ({"provider": "openai", "cache": {"mode": "simple", "max_age": 60}}, "main"),
        ({"provider": "openai", "cache": {"mode": "semantic"}}, "main"),
        ({"provider": "openai", "strict_open_ai_compliance": True}, "main"),
        ({"cache": {"mode": "simple"}}, None),
        (fallback(SPARE, MAIN), "spare"),
        (fallback(fallback(SPARE), MAIN), "spare"),
        ({"strategy": {"mode": "loadbalance"}, "targets": [{**MAIN, "weight": 0}, SPARE]}, "spare"),
        # As its JavaScript SDK lets people write it.
        ({"strategy": {"mode": "fallback"}, "targets": [{"virtualKey": "spare-key"}]}, "spare"),
        ({"override_params": {"model": "@spare/m"}}, "spare"),
    ],
)
def test_a_config_chooses_among_what_the_operator_listed(config: Any, upstream: str | None) -> None:
    result = loaded(config).completions()
    assert result.denied is None
    assert result.upstream == upstream


def test_a_config_that_names_nobody_goes_where_the_headers_say() -> None:
    config = {"retry": {"attempts": 1}, "override_params": {"temperature": 0}}
    assert loaded(config, virtual_key="spare-key").completions().upstream == "spare"
    # What a config names counts more than a header, which must be listed all the same.
    assert loaded(MAIN, virtual_key="spare-key").completions().upstream == "main"
    refused = loaded(MAIN, virtual_key="else").completions().denied
    assert refused is not None
    assert refused.code == "unknown_route"


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("before_request_hooks", "[policy]"),
        ("after_request_hooks", "[policy]"),
        ("input_guardrails", "[policy]"),
        ("output_guardrails", "[policy]"),
        ("default_input_guardrails", "[policy]"),
        ("output_mutators", "[policy]"),
        ("custom_host", "base_url"),
        ("customHost", "base_url"),
        ("resource_name", "base_url"),
        ("huggingface_base_url", "base_url"),
        ("forward_headers", "pass_headers"),
        ("openai_organization", "pass_headers"),
        ("api_key", "credential"),
        ("apiKey", "credential"),
        ("authorization", "credential"),
        ("aws_secret_access_key", "credential"),
        ("aws_region", "[upstreams.NAME]"),
        ("azure_ad_token", "credential"),
        ("azure_deployment_name", "[upstreams.NAME]"),
        ("vertex_project_id", "[upstreams.NAME]"),
        ("vertex_service_account_json", "[upstreams.NAME]"),
        ("metadata", "x-portkey-metadata"),
    ],
)
@pytest.mark.parametrize("shape", ["root", "target", "nested"])
def test_what_is_the_operators_is_refused_with_where_it_is_set(
    key: str, where: str, shape: str
) -> None:
    target = {"provider": "openai", key: "sk-secret-0123456789"}
    configs = {
        "root": target,
        "target": fallback(MAIN, target),
        "nested": fallback(fallback(target)),
    }
    said = message(configs[shape])
    assert f"leave out '{key.replace('customHost', 'custom_host')}'" in said or f"'{key}'" in said
    assert "the operator's to set" in said
    assert where in said
    assert "sk-secret" not in said
    assert {"root": "config,", "target": "config.targets[1],", "nested": "targets[0].targets[0],"}[
        shape
    ] in said


def test_a_circuit_breaker_is_the_operators_too() -> None:
    assert "breaker of its" in message(fallback(MAIN, cb_config={"failure_threshold": 5}))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"stategy": {}}, "unknown key 'stategy' in config: leave out or correct it. Did you mean 'strategy'?"),
        ({"provider": "openai", "retry": {"attempt": 1}}, "Did you mean 'attempts'?"),
        (fallback({"virtual_keys": "main-key"}), "Did you mean 'virtual_key'?"),
        ({"strategy": {"mode": "fallbacks"}, "targets": [MAIN]}, "Did you mean 'fallback'?"),
        ({"strategy": {"mode": ["fallback"]}, "targets": [MAIN]}, "write one of single"),
        ({"strategy": {"mode": "sample"}, "targets": [MAIN]}, "write one of single"),
        ({"strategy": "fallback", "targets": [MAIN]}, "config.strategy is no object"),
        ({"strategy": {}, "targets": [MAIN]}, "no strategy.mode"),
        ({"targets": [MAIN]}, "no strategy.mode"),
        ({"strategy": {"mode": "fallback"}}, "has no targets"),
        ({**fallback(MAIN), "provider": "openai"}, "write it into the targets"),
        (fallback(), "no list of 1 to 32 targets"),
        (fallback(*[MAIN] * 33), "no list of 1 to 32 targets"),
        (fallback(*[fallback(*[MAIN] * 9)] * 4), "more than 32 targets"),
        (fallback(fallback(fallback(fallback(fallback(MAIN))))), "deeper than 4 targets"),
        (fallback("main"), "config.targets[0] is no object"),
        (fallback(MAIN, on_status_codes=[200]), "400 to 599"),
        (fallback(MAIN, on_status_codes=["429"]), "400 to 599"),
        (fallback(MAIN, on_status_codes=429), "400 to 599"),
        (fallback(MAIN, on_status_codes=[True]), "400 to 599"),
        (fallback(MAIN, on_status_codes=[429] * 65), "up to 64"),
        ({**MAIN, "retry": {}}, "write 0 to 5"),
        ({**MAIN, "retry": {"attempts": -1}}, "write 0 to 5"),
        ({**MAIN, "retry": {"attempts": True}}, "write 0 to 5"),
        ({**MAIN, "retry": {"attempts": "3"}}, "write 0 to 5"),
        ({**MAIN, "retry": 3}, "config.retry is no object"),
        ({**MAIN, "retry": {"attempts": 1, "use_retry_after_header": "yes"}}, "true nor false"),
        ({**MAIN, "retry": {"attempts": 1, "on_status_codes": [700]}}, "400 to 599"),
        ({**MAIN, "request_timeout": -1}, "no number from 0 to 3600000"),
        ({**MAIN, "request_timeout": "1s"}, "no number from 0 to 3600000"),
        ({**MAIN, "request_timeout": 10**9}, "no number from 0 to 3600000"),
        ({**MAIN, "weight": -1}, "weight is no number"),
        (fallback({**MAIN, "weight": "1"}), "config.targets[0].weight is no number"),
        ({"strategy": {"mode": "loadbalance"}, "targets": [{**MAIN, "weight": 0}]}, "give one of them 1"),
        ({**MAIN, "override_params": []}, "override_params is no object"),
        ({**MAIN, "override_params": {"stream": True}}, "'stream'"),
        ({**MAIN, "override_params": {"prompt": "x"}}, "'prompt'"),
        ({**MAIN, "override_params": {"messages": []}}, "'messages'"),
        ({**MAIN, "override_params": {"seed": 1 << 64}}, "64 bits"),
        ({**MAIN, "override_params": {"model": 5}}, "no name of a model"),
        ({**MAIN, "override_params": {"model": ""}}, "no name of a model"),
        ({**MAIN, "override_params": {"user": "\ud800"}}, "half a character"),
        ({**MAIN, "override_params": {"\ud800": 1}}, "half a character"),
        ({**MAIN, "cache": {"mode": "other"}}, "write one of simple, semantic"),
        ({**MAIN, "cache": True}, "config.cache is no object"),
        ({**MAIN, "virtualKey": "spare-key"}, "says 'virtual_key' twice"),
        ({**MAIN, "name": 1}, "no text"),
        ('{"virtual_key": "main-key", "weight": NaN}', "too large"),
        ('{"virtual_key": "main-key", "weight": 1e999}', "too large"),
        ('{"virtual_key": "main-key", "override_params": ' + '{"a":' * 40 + "1" + "}" * 41, "32 levels"),
        ('{"name": "' + "x" * 16_384 + '"}', "send its id"),
    ],
)  # fmt: skip
def test_a_config_that_is_wrong_is_refused_with_what_to_do(config: Any, said: str) -> None:
    assert said in message(config)


@pytest.mark.parametrize(
    ("config", "place", "param"),
    [
        (fallback(MAIN, {"provider": "main"}), "config.targets[1].provider", "provider"),
        (fallback(MAIN, {"virtual_key": "main"}), "config.targets[1].virtual_key", "virtual-key"),
    ],
)
def test_every_target_must_be_listed_also_one_that_is_never_reached(
    config: Any, place: str, param: str
) -> None:
    result = loaded(config).completions()
    assert result.denied is not None
    assert (result.denied.code, result.denied.param) == ("unknown_route", f"x-portkey-{param}")
    assert place in result.denied.message
    assert "spare-key" not in result.denied.message


# -- what becomes of it ------------------------------------------------------------------------------


def failed(upstream: str, status: int | None, target: str, kind: str = "status") -> Failure:
    return Failure(upstream, kind, "", target, status)


def test_settings_above_hold_for_targets_that_say_nothing_themselves() -> None:
    config = {
        "request_timeout": 2000,
        "retry": {"attempts": 9, "on_status_codes": [500]},
        "override_params": {"temperature": 0, "max_tokens": 5},
        **fallback(
            {**MAIN, "override_params": {"max_tokens": 9, "model": "a"}},
            {**SPARE, "request_timeout": 500, "retry": {"attempts": 0}},
            on_status_codes=[429],
        ),
    }
    first = choice(config)
    assert isinstance(first, Choice)
    assert first.body == {"temperature": 0, "max_tokens": 9, "model": "a"}
    assert (first.timeout, first.again_on) == (2.0, frozenset({429, 500}))
    # Portkey itself never tries more than five times again.
    more = choice(config, *[failed("main", 500, first.target)] * 5)
    assert (more.upstream, more.again_on) == ("main", {429})
    second = choice(config, failed("main", 429, first.target))
    assert (second.upstream, second.body) == ("spare", {"temperature": 0, "max_tokens": 5})
    assert (second.timeout, second.again_on) == (0.5, frozenset())


@pytest.mark.parametrize(
    ("sent", "own", "timeout"),
    [
        ("1500", None, 1.5),
        ("1500", 200, 0.2),
        ("1500", 2000, 2.0),
        ("0", None, None),
        ("-1", None, None),
        ("1s", None, None),
        ("1" * 8, None, None),
    ],
)
def test_the_time_in_a_header_holds_where_the_config_says_none(
    sent: str, own: int | None, timeout: float | None
) -> None:
    config = MAIN if own is None else {**MAIN, "request_timeout": own}
    headers = {"x-portkey-config": json.dumps(config), "x-portkey-request-timeout": sent}
    call = Call(id="1", endpoint="chat", body={}, principal=Principal("a"), headers=headers)
    found = Portkey(**OPTIONS).choose_upstream(call, ())
    assert isinstance(found, Choice)
    assert found.timeout == timeout


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temperature": "hot"}, "config.targets[1].override_params: "),
        ({"api_base": "http://127.0.0.1"}, "The operator chooses the upstream"),
        ({"Model": "m"}, "config.targets[1].override_params: "),
    ],
)
def test_parameters_that_no_call_may_have_no_target_may_set(params: Any, said: str) -> None:
    result = loaded(fallback(MAIN, {**SPARE, "override_params": params})).completions()
    assert result.denied is not None
    assert (result.denied.status, result.denied.code) == (400, "invalid_config")
    assert said in result.denied.message
    assert "127.0.0.1" not in result.denied.message


def test_the_headers_of_a_choice_say_whose_answer_it_is() -> None:
    config = {"retry": {"attempts": 2}, **fallback({"provider": "openai"}, fallback(SPARE))}
    first = choice(config)
    again = choice(config, failed("main", 500, first.target))
    third = choice(config, failed("main", 500, first.target), failed("main", 404, first.target))
    told = [
        (
            found.reply_headers["x-portkey-provider"],
            found.reply_headers["x-portkey-last-used-option-index"],
            found.reply_headers["x-portkey-retry-attempt-count"],
        )
        for found in (first, again, third)
    ]
    assert told == [
        ("openai", "config.targets[0]", "0"),
        ("openai", "config.targets[0]", "1"),
        ("@spare", "config.targets[1].targets[0]", "0"),
    ]


def test_a_config_is_followed_to_its_end_and_nobody_else_is_asked() -> None:
    end = choice(MAIN, failed("main", None, "0", "connect"))
    assert end == Choice(upstream="main")  # which was tried, and ends the tries


@pytest.mark.parametrize(
    ("codes", "unanswered"), [(None, True), ([429], False), ([408], True), ([429, 502], True)]
)
def test_a_fallback_goes_on_after_silence_where_its_codes_say_so(
    codes: list[int] | None, unanswered: bool
) -> None:
    more = {} if codes is None else {"on_status_codes": codes}
    assert choice(fallback(MAIN, SPARE, **more)).again_unanswered is unanswered


def test_without_codes_a_fallback_goes_on_after_any_error_and_a_retry_after_passing_ones() -> None:
    assert choice(fallback(MAIN, SPARE)).again_on == frozenset(range(400, 600))
    retried = choice({**MAIN, "retry": {"attempts": 1}})
    assert retried.again_on == {429, 500, 502, 503, 504, 529}
    assert retried.again_unanswered is False
    codes = {"attempts": 1, "on_status_codes": [408]}
    assert choice({**MAIN, "retry": codes}).again_unanswered is True


@pytest.mark.parametrize(
    ("name", "asked", "waits"),
    [
        (None, 7.0, True),
        (None, 30.0, False),
        ("use_retry_after_header", 30.0, True),
        ("useRetryAfterHeader", 30.0, True),
        ("use_retry_after_headers", 30.0, True),
        ("use_retry_after_header", 61.0, False),
    ],
)
def test_an_upstream_is_given_the_time_it_asks_for(
    name: str | None, asked: float, waits: bool
) -> None:
    config = {**MAIN, "retry": {"attempts": 1, **({name: True} if name else {})}}
    found = choice(config, Failure("main", "status", "", "0", 429, asked))
    assert (found.after >= asked) is waits


def test_weights_are_kept_and_the_same_call_stays_where_it_is() -> None:
    config = {
        "strategy": {"mode": "loadbalance"},
        "targets": [{**MAIN, "weight": 3}, SPARE],
    }
    plugin = Portkey(**OPTIONS)
    headers = {"x-portkey-config": json.dumps(config)}
    calls = [
        Call(id=f"req_{n}", endpoint="chat", body={}, principal=Principal("a"), headers=headers)
        for n in range(2000)
    ]
    chosen = [plugin.choose_upstream(call, ()) for call in calls]
    assert chosen == [plugin.choose_upstream(call, ()) for call in calls]
    share = sum(isinstance(c, Choice) and c.upstream == "main" for c in chosen) / len(calls)
    assert 0.7 < share < 0.8
    # It does not fall back by itself, as Portkey does not.
    assert all(isinstance(c, Choice) and c.again_on == frozenset() for c in chosen)


def test_a_list_of_models_is_asked_for_without_what_is_overridden() -> None:
    assert choice({**MAIN, "override_params": {"model": "m"}}, endpoint="models").body == {}


def test_the_model_that_a_target_sets_stands_in_for_one_that_is_not_named() -> None:
    config = fallback({**MAIN, "override_params": {"model": "gpt-4o"}}, SPARE)
    assert loaded(config).completions(model="portkey-default").body["model"] == "gpt-4o"
    result = loaded(MAIN).completions(model="portkey-default")
    assert result.denied is not None
    assert result.denied.param == "model"


def test_a_provider_before_the_model_is_taken_off_where_it_is_listed() -> None:
    def asked(model: str) -> Result:
        return loaded("{}").chat(model=model)

    result = asked("@spare/gpt-4o")
    assert (result.upstream, result.body["model"]) == ("spare", "gpt-4o")
    assert result.record.notes["portkey_provider"] == "@spare"
    for model in ("@cf/meta/llama-3", "@spare", "@spare/", "spare/gpt-4o"):
        result = asked(model)
        assert (result.upstream, result.body["model"]) == (None, model)
    with_settings = loaded({"retry": {"attempts": 1}}).chat(model="@spare/gpt-4o")
    assert with_settings.upstream == "spare"
    overridden = choice({"override_params": {"model": "@spare/gpt-4o"}})
    assert (overridden.upstream, overridden.body) == ("spare", {"model": "gpt-4o"})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["main-key", "openai", "fallback", "loadbalance", "conditional", "single"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from([*NODE, *STRATEGY, *RETRY, *CONDITION, "params.n", "$and", "$in", "api_key"])
        | st.text(max_size=4),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip
_TARGET = st.fixed_dictionaries(
    {"virtual_key": st.sampled_from(["main-key", "spare-key"])},
    optional=dict.fromkeys(("weight", "retry", "override_params", "request_timeout"), _JSON),
)


@given(
    st.dictionaries(st.sampled_from(NODE), _JSON, max_size=6)
    | st.fixed_dictionaries(
        {
            "strategy": st.fixed_dictionaries(
                {"mode": st.sampled_from(["fallback", "loadbalance"])}
            ),
            "targets": st.lists(_TARGET | _JSON, min_size=1, max_size=4),
        },
        optional={"retry": _JSON, "override_params": _JSON},
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_config_holds_it_is_refused_or_followed(config: Any) -> None:
    headers = {"x-portkey-config": json.dumps(config)}
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    call = Call(
        id="1", endpoint="chat", body=body, principal=Principal("alice"), headers=headers, model="m"
    )
    plugin = Portkey(**OPTIONS)
    denied, chosen = plugin.guard_request(call), plugin.choose_upstream(call, ())
    assert denied is not None or not isinstance(chosen, Deny)
    assert bad_choice(chosen) is None
    if isinstance(chosen, Choice):
        assert chosen.upstream in {"main", "spare"}


# -- the guide ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks(PAGE, "json"))
def test_the_configs_of_the_guide_are_followed(text: str) -> None:
    (whole, *_) = blocks(PAGE, "toml")
    entries = tomllib.loads(whole)["plugins"]
    (options,) = [entry["options"] for entry in entries if entry["use"] == "portkey"]
    result = harness("portkey", **options).given(
        headers={"x-portkey-config": text.replace("\n", " ")}
    )
    assert result.completions().upstream in {"openai", "together"}


@pytest.mark.parametrize("key", [*NODE, *STRATEGY, *RETRY[:3]])
def test_the_guide_speaks_of_every_key(key: str) -> None:
    assert re.search(rf"`(strategy\.|retry\.)?{key}[`.]", PAGE.read_text()), key


# -- the operator's own ------------------------------------------------------------------------------


def test_an_operator_lists_a_whole_config_under_an_id() -> None:
    options = {**OPTIONS, "configs": {"pc-1": fallback(SPARE, MAIN), "pc-2": "main"}}
    for name, upstream in (("pc-1", "spare"), ("pc-2", "main")):
        given = harness("portkey", **options).given(headers={"x-portkey-config": name})
        assert given.completions().upstream == upstream
    refused = harness("portkey", **options).given(headers={"x-portkey-config": "pc-3"})
    denied = refused.completions().denied
    assert denied is not None
    assert (denied.code, denied.param) == ("unknown_route", "x-portkey-config")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"virtual_key": "main"}, "configs.pc-1: The name in config.virtual_key is not"),
        ({"virtual_key": "main-key", "api_key": {"env": "KEY"}}, "configs.pc-1: leave out 'api_key'"),
        ({"retry": {"attempts": 1}}, "configs.pc-1: config names nobody"),
        (fallback(), "configs.pc-1: config.targets is no list"),
        ({**MAIN, "input_guardrails": [HOOK]}, "[policy]"),
    ],
)  # fmt: skip
def test_a_listed_config_that_is_wrong_stops_the_start(config: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        harness("portkey", **OPTIONS, configs={"pc-1": config})
    assert said in str(caught.value)
