import json
from typing import Any

import pytest

from plugins.portkey import Portkey
from proxy import Call, Choice, ConfigError, Denial, Deny, Failure, Principal, Reply
from proxy.testing import Harness, Result, harness
from tests.gateway import COMPLETION, KEY, REPLY, UPSTREAM_KEY, gateway, refused
from tests.upstream import json_reply

OPTIONS: dict[str, Any] = {
    "providers": {"openai": "main", "@openai-prod": "prod"},
    "virtual_keys": {"openai-virtual-key": "spare"},
    "hosts": {"https://llm.example.com/v1/": "local"},
    "configs": {"pc-prod-1234": "prod"},
}
#: What the SDKs add to every call, and some things they can be told to add.
EXTRAS = {
    "x-portkey-package-version": "portkey-2.3.4",
    "x-portkey-runtime": "CPython",
    "x-portkey-runtime-version": "3.11.7",
    "x-portkey-strict-open-ai-compliance": "false",
    "x-portkey-debug": "false",
    "x-portkey-cache": "simple",
    "x-portkey-cache-force-refresh": "true",
    "x-portkey-cache-namespace": "mine",
    "x-portkey-request-timeout": "1000",
    "x-portkey-retry": "5",
    "x-portkey-mode": "proxy openai",
    "x-portkey-forward-headers": "x-internal",
    "x-portkey-guardrails": "off",
    "x-portkey-aws-secret-access-key": "aws-secret",
    "x-portkey-azure-resource-name": "elsewhere",
    "x-portkey-openai-project": "p",
    "x-portkey-something-new": "1",
}


def portkey(**headers: str) -> Harness:
    named = {f"x-portkey-{name.replace('_', '-')}": value for name, value in headers.items()}
    return harness("portkey", **OPTIONS).given(headers=named)


def denied(result: Result, code: str, param: str) -> str:
    assert result.denied is not None
    assert (result.denied.status, result.denied.code, result.denied.param) == (400, code, param)
    assert result.body is None
    assert result.record.denied_by == "portkey"
    return result.denied.message


@pytest.mark.parametrize(
    ("headers", "upstream"),
    [
        ({}, None),
        ({"provider": ""}, None),
        ({"api_key": ""}, None),
        ({"provider": "openai"}, "main"),
        ({"provider": "@openai-prod"}, "prod"),
        ({"virtual_key": "openai-virtual-key"}, "spare"),
        ({"custom_host": "https://llm.example.com/v1"}, "local"),
        ({"custom_host": "https://llm.example.com/v1/"}, "local"),
        ({"config": "pc-prod-1234"}, "prod"),
        ({"config": "{}"}, None),
        ({"config": '{"provider": "openai"}'}, "main"),
        ({"config": '{"virtual_key": "openai-virtual-key"}'}, "spare"),
        ({"config": ' {"provider": "openai"} '}, "main"),
        ({"provider": "openai", "virtual_key": "openai-virtual-key"}, "spare"),
        ({"provider": "openai", "custom_host": "https://llm.example.com/v1"}, "local"),
        ({"provider": "openai", "config": "pc-prod-1234"}, "prod"),
    ],
)
def test_the_headers_choose_among_what_the_operator_listed(
    headers: dict[str, str], upstream: str | None
) -> None:
    result = portkey(**headers).completions()
    assert result.denied is None
    assert result.upstream == upstream


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"provider": "anthropic"}, "provider"),
        ({"provider": "OpenAI"}, "provider"),
        ({"provider": "openai,openai"}, "provider"),
        ({"provider": "main"}, "provider"),
        ({"virtual_key": "openai"}, "virtual-key"),
        ({"virtual_key": "spare"}, "virtual-key"),
        ({"custom_host": "http://169.254.169.254"}, "custom-host"),
        ({"custom_host": "https://llm.example.com/v1/../admin"}, "custom-host"),
        ({"config": "pc-other"}, "config"),
        ({"config": '{"provider": "main"}'}, "provider"),
        ({"config": '{"virtual_key": "openai"}'}, "virtual-key"),
        # One listed name does not make up for another that is not.
        ({"provider": "anthropic", "virtual_key": "openai-virtual-key"}, "provider"),
        ({"provider": "openai", "custom_host": "http://127.0.0.1:6379"}, "custom-host"),
    ],
)
def test_a_name_the_operator_did_not_list_is_refused(headers: dict[str, str], param: str) -> None:
    result = portkey(**headers).completions()
    message = denied(result, "unknown_route", f"x-portkey-{param}")
    assert "ask for it to be added" in message
    for secret in ("openai-virtual-key", "pc-prod-1234", "llm.example.com"):
        assert secret not in message


def test_the_refusal_of_a_provider_lists_those_there_are() -> None:
    message = denied(
        portkey(provider="anthropic").completions(), "unknown_route", "x-portkey-provider"
    )
    assert "Listed: @openai-prod, openai." in message
    nothing = harness("portkey").given(headers={"x-portkey-provider": "x"}).completions()
    assert "Listed: none." in denied(nothing, "unknown_route", "x-portkey-provider")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "neither an id nor a JSON object"),
        ('{"provider": "openai"', "neither an id nor a JSON object"),
        ('{"a": ' + "[" * 5000, "neither an id nor a JSON object"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "neither|'a'"),
        ('{"provider": 1}', "no text"),
        ('{"provider": null}', "no text"),
        ('{"retry": {"attempts": 3}}', "names nobody"),
        ('{"provider": "openai", "api_key": "sk-secret"}', "leave out 'api_key'"),
        ('{"provider": "openai", "custom_host": "http://evil"}', "leave out 'custom_host'"),
        ('{"strategy": {"mode": "fallback"}, "targets": []}', "no list of 1 to 32"),
        ('{"before_request_hooks": []}', "leave out 'before_request_hooks'"),
        ('{"input_guardrails": []}', "leave out 'input_guardrails'"),
        ('{"forward_headers": ["x"]}', "leave out 'forward_headers'"),
        ('{"override_params": {"model": "m"}}', "names nobody"),
    ],
)
def test_a_config_may_only_route(config: str, said: str) -> None:
    result = portkey(config=config).completions()
    message = denied(result, "invalid_config", "x-portkey-config")
    assert any(part in message for part in said.split("|"))
    assert "sk-secret" not in repr(result)


def test_after_a_failure_the_operators_routes_decide() -> None:
    plugin = Portkey(providers={"openai": "main"})
    call = Call(
        id="req_1", endpoint="completions", body={}, principal=Principal("alice"),
        headers={"x-portkey-provider": "openai"},
    )  # fmt: skip
    choice = plugin.choose_upstream(call, ())
    assert isinstance(choice, Choice)
    assert (choice.upstream, choice.again_on) == ("main", frozenset())
    assert plugin.choose_upstream(call, (Failure("main", "connect", "refused"),)) is None


def style(**headers: str) -> list[tuple[str, str]]:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return [("Content-Type", "application/json"), *named]


@pytest.mark.parametrize(
    "headers",
    [
        style(x_portkey_provider="openai", x_portkey_api_key=KEY),
        style(x_portkey_provider="openai", Authorization=f"Bearer {KEY}"),
        style(x_portkey_provider="openai", Authorization=KEY),
        style(x_portkey_provider="openai", Authorization=f"Bearer {KEY}", x_portkey_api_key=""),
        style(x_portkey_api_key=KEY, x_portkey_virtual_key="openai-virtual-key"),
        style(
            x_portkey_api_key=KEY,
            x_portkey_virtual_key="openai-virtual-key",
            Authorization="Bearer OPENAI_API_KEY",
        ),
        style(x_portkey_api_key=KEY, x_portkey_config='{"provider":"openai"}'),
    ],
)
def test_every_style_of_the_pages_works_and_nothing_of_it_is_sent_on(
    headers: list[tuple[str, str]],
) -> None:
    options = {"providers": {"openai": "main"}, "virtual_keys": {"openai-virtual-key": "main"}}
    with gateway(plugins=[{"use": "portkey", "options": options}]) as gate:
        for path in ("/v1/completions", "/completions"):
            answer = gate.ask(COMPLETION, [*headers, *EXTRAS.items()], path=path)
            assert answer.status == 200
            assert answer.header("x-portkey-trace-id")
        for request in gate.upstream.requests:
            assert request.json() == COMPLETION
            assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
            assert b"portkey" not in repr(request.headers).lower().encode()
            assert "aws-secret" not in repr(request.headers)
        assert "aws-secret" not in repr(gate.record(2))


def test_a_refusal_has_openais_shape_and_the_headers_the_sdks_read() -> None:
    with gateway(plugins=[{"use": "portkey"}]) as gate:
        headers = style(x_portkey_provider="openai", x_portkey_api_key=KEY)
        answer = gate.ask(COMPLETION, headers)
        refused(answer, 400, "unknown_route")
        assert answer.header("x-portkey-provider") == "outgate"
        assert gate.upstream.requests == []


GUARD = {
    "use": "regex_guard",
    "options": {"patterns": {"canary": "CANARY-[0-9]{4}", "plan": "bluebird"}},
}
SECRET = "CANARY-7781 and CANARY-7782, bluebird"


def test_a_refusal_by_policy_is_told_as_guardrails_are_told_of_there() -> None:
    with gateway(plugins=[GUARD, {"use": "portkey"}]) as gate:
        headers = style(x_portkey_package_version="portkey-2.3.4", x_portkey_api_key=KEY)
        answer = gate.ask({**COMPLETION, "prompt": SECRET}, headers)
        assert answer.status == gate.record().status == 446
        told = answer.json()
        assert told["error"]["type"] == "hooks_failed"
        assert told["error"]["code"] == gate.record().code == "content_policy_violation"
        (guardrail,) = told["hook_results"]["before_request_hooks"]
        assert told["hook_results"]["after_request_hooks"] == []
        assert {key: guardrail[key] for key in ("id", "verdict", "deny", "type")} == {
            "id": "regex_guard", "verdict": False, "deny": True, "type": "guardrail",
        }  # fmt: skip
        checks = [(check["id"], check["verdict"], check["data"]) for check in guardrail["checks"]]
        assert checks == [("canary", False, {"findings": 2}), ("plan", False, {"findings": 1})]
        assert b"7781" not in answer.body
        assert b"bluebird" not in answer.body
        assert answer.header("x-should-retry") == "false"
        assert answer.header("x-portkey-trace-id")


def test_a_reply_that_is_withheld_fails_the_guardrails_behind_it() -> None:
    policy = {"request": {"*": "monitor"}, "response": {"canary": "deny"}}
    script = json_reply({**REPLY, "model": SECRET})
    with gateway(script, plugins=[GUARD, {"use": "portkey"}], policy=policy) as gate:
        headers = style(x_portkey_trace_id="t", Authorization=f"Bearer {KEY}")
        answer = gate.ask({**COMPLETION, "prompt": SECRET}, headers)
        assert answer.status == 446
        results = answer.json()["hook_results"]
        assert results["before_request_hooks"] == []
        ((check,),) = [guardrail["checks"] for guardrail in results["after_request_hooks"]]
        assert (check["id"], check["data"]) == ("canary", {"findings": 2})


def test_other_callers_and_other_refusals_are_told_as_ever() -> None:
    headers = style(x_portkey_trace_id="t", Authorization=f"Bearer {KEY}")
    secret = {**COMPLETION, "prompt": SECRET}
    with gateway(plugins=[GUARD, {"use": "portkey"}]) as gate:
        refused(gate.ask(secret), 400, "content_policy_violation")
        refused(gate.ask(COMPLETION, [*headers, ("x-portkey-provider", "x")]), 400, "unknown_route")
    with gateway(plugins=[GUARD, {"use": "portkey", "options": {"hook_results": False}}]) as gate:
        refused(gate.ask(secret, headers), 400, "content_policy_violation")


def test_what_is_only_monitored_or_masked_is_told_to_nobody() -> None:
    headers = style(x_portkey_trace_id="t", Authorization=f"Bearer {KEY}")
    policy = {"request": {"canary": "monitor", "plan": "mask"}}
    with gateway(plugins=[GUARD, {"use": "portkey"}], policy=policy) as gate:
        answer = gate.ask({**COMPLETION, "prompt": SECRET}, headers)
        assert answer.status == 200
        assert b"hook_results" not in answer.body


def test_a_guardrail_of_a_plugin_that_names_no_kind_fails_as_a_whole() -> None:
    denial = Denial(Deny("no"), "mine")
    call = Call(
        id="1", endpoint="chat", body={}, principal=Principal("a"), headers={"x-portkey-mode": "m"}
    )
    told = Portkey().rewrite_denial(
        call, denial, Reply(status=400, body={"error": {"message": "no"}})
    )
    assert told is not None
    (guardrail,) = told.body["hook_results"]["before_request_hooks"]
    assert (guardrail["id"], guardrail["checks"]) == ("mine", [])


def test_what_the_sdks_add_changes_nothing() -> None:
    loaded = harness("portkey", **OPTIONS)
    extras = loaded.given(headers=EXTRAS).completions()
    plain = loaded.completions()
    assert extras.denied is plain.denied is None
    assert (extras.body, extras.upstream) == (plain.body, plain.upstream)
    assert extras.record.notes == {}
    assert "aws-secret" not in repr(extras)


def test_the_answer_carries_the_headers_those_sdks_read() -> None:
    options = {"providers": {"openai": "main", "also": "main"}}
    with gateway(plugins=[{"use": "portkey", "options": options}]) as gate:
        headers = style(x_portkey_provider="also", x_portkey_trace_id="my-trace-1")
        answer = gate.ask(COMPLETION, [*headers, ("authorization", KEY)])
        told = {name.lower(): value for name, value in answer.headers}
        assert {name: value for name, value in told.items() if "portkey" in name} == {
            "x-portkey-trace-id": "my-trace-1",
            "x-portkey-provider": "also",
            "x-portkey-cache-status": "DISABLED",
            "x-portkey-retry-attempt-count": "0",
            "x-portkey-last-used-option-index": "config",
        }
        assert gate.record().notes["trace_id"] == "my-trace-1"


def test_a_call_without_such_headers_gets_none_back() -> None:
    result = harness("portkey", **OPTIONS).given(headers={"user-agent": "curl"}).completions()
    assert not any("portkey" in name for name in result.headers)
    assert result.record.notes == {}


@pytest.mark.parametrize("trace", ["", "a b", "x" * 129, "a\r\nset-cookie: x", "é", "\x7f"])
def test_a_trace_id_that_is_no_token_is_replaced_by_ours(trace: str) -> None:
    result = portkey(trace_id=trace).completions()
    assert result.headers["x-portkey-trace-id"] == result.record.id
    assert "trace_id" not in result.record.notes


def test_an_unlisted_provider_is_never_echoed() -> None:
    assert portkey(provider="evil").completions().headers["x-portkey-provider"] == "outgate"


def test_metadata_is_noted_and_never_sent_on() -> None:
    labels = {"_user": "u-1", "environment": "test", "n": 1, "nested": {"a": "b"}}
    result = portkey(metadata=json.dumps(labels)).completions()
    assert result.record.notes["metadata"] == {"_user": "u-1", "environment": "test"}
    assert result.body == {"model": "test-model", "prompt": "Hello"}


def test_metadata_is_cut_to_a_sane_size() -> None:
    labels = {f"{i}" + "k" * 500: "v" * 5000 for i in range(100)}
    noted = portkey(metadata=json.dumps(labels)).completions().record.notes["metadata"]
    assert len(noted) == 32
    assert {len(text) for pair in noted.items() for text in pair} == {128}


@pytest.mark.parametrize("text", ["", "x", "[1]", "{", "1", '"a"', "{}", "[" * 10_000])
def test_metadata_that_is_no_object_is_left_out(text: str) -> None:
    result = portkey(metadata=text).completions()
    assert result.denied is None
    assert "metadata" not in result.record.notes


def test_the_placeholder_model_is_replaced_or_refused() -> None:
    loaded = harness("portkey", default_model="gpt-4o").given(headers={"x-portkey-debug": "false"})
    assert loaded.completions(model="portkey-default").body["model"] == "gpt-4o"
    assert loaded.completions(model="other").body["model"] == "other"
    result = portkey(debug="false").completions(model="portkey-default")
    assert "set model" in denied(result, "invalid_request", "model")


def test_in_monitor_mode_nothing_is_refused_or_changed() -> None:
    loaded = portkey(provider="anthropic").given(
        mode="monitor", headers={"x-portkey-provider": "anthropic"}
    )
    result = loaded.completions()
    assert result.denied is None
    assert result.upstream is None
    assert any(verdict.verdict == "monitor:deny" for verdict in result.record.verdicts)


@pytest.mark.parametrize("name", ["", "with blank", "é", "x" * 129, "a\n"])
def test_a_name_that_no_header_can_carry_stops_the_start(name: str) -> None:
    for table in ("providers", "virtual_keys", "configs", "hosts"):
        with pytest.raises(ConfigError, match="can never be sent"):
            harness("portkey", **{table: {name: "main"}})
