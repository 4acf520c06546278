"""Portkey's Python SDK in all its styles, as the pages of its documentation write them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from portkey_ai import AsyncPortkey, Portkey

from tests.e2e.answers import COMPLETION, error
from tests.e2e.stack import ALICE_KEY, UPSTREAM_KEY, Stack
from tests.gateway import KEY, gateway
from tests.upstream import ScriptedUpstream, json_reply

PROMPT = "Once upon a time"
STYLES = ["open source", "open source, key alone", "hosted", "hosted, provider"]


def options(style: str, upstream: str = "demo") -> dict[str, Any]:
    """What the documentation tells its readers to write, with our keys."""
    provider = "openai" if upstream == "demo" else upstream
    return {
        "open source": {"provider": provider, "Authorization": f"Bearer {ALICE_KEY}"},
        "open source, key alone": {"provider": provider, "Authorization": ALICE_KEY},
        "hosted": {"api_key": ALICE_KEY, "virtual_key": f"{upstream}-virtual-key"},
        "hosted, provider": {"api_key": ALICE_KEY, "provider": provider},
    }[style]


@contextmanager
def client(stack: Stack, **options: Any) -> Iterator[Portkey]:
    portkey = Portkey(base_url=stack.base_url, **options)
    with closing(portkey._client), closing(portkey.openai_client):
        yield portkey


@pytest.fixture(params=STYLES)
def portkey(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Portkey]:
    with client(stack, **options(request.param)) as portkey:
        yield portkey


@pytest.fixture(params=STYLES)
def faulty(
    request: pytest.FixtureRequest, stack: Stack, scripted: ScriptedUpstream
) -> Iterator[Portkey]:
    """The same client in front of the scripted upstream."""
    with client(stack, **options(request.param, "scripted")) as portkey:
        yield portkey


def test_a_completion_comes_whole(portkey: Portkey) -> None:
    answer = portkey.completions.create(model="demo-instruct", prompt=PROMPT, max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage.total_tokens > 0


def test_a_streamed_completion_says_the_same_as_a_whole_one(portkey: Portkey) -> None:
    asked: dict[str, Any] = {"model": "demo-instruct", "prompt": PROMPT, "max_tokens": 8, "seed": 7}
    whole = portkey.completions.create(**asked)
    texts = [event.choices[0].text for event in portkey.completions.create(**asked, stream=True)]
    assert len(texts) > 1
    assert "".join(texts) == whole.choices[0].text


def test_a_chat_comes_whole(portkey: Portkey) -> None:
    answer = portkey.chat.completions.create(
        model="demo-instruct", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content


def test_the_headers_its_sdk_reads_are_there(portkey: Portkey) -> None:
    answer = portkey.completions.create(model="demo-instruct", prompt=PROMPT, max_tokens=2)
    headers = answer.get_headers()
    assert headers is not None
    assert headers["provider"] in {"openai", "outgate"}
    assert headers["trace-id"]


def test_an_unknown_model_is_not_found(portkey: Portkey) -> None:
    with pytest.raises(Exception, match="no-such-model") as caught:
        portkey.completions.create(model="no-such-model", prompt=PROMPT)
    assert type(caught.value).__name__ == "NotFoundError"


def test_it_leaves_the_retries_of_an_upstreams_error_to_the_gateway(
    faulty: Portkey, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(error("some_code", "Some reason."), 500))
    with pytest.raises(Exception, match="Some reason") as caught:
        faulty.completions.create(model="scripted", prompt=PROMPT)
    assert type(caught.value).__name__ == "InternalServerError"
    # An x-portkey-trace-id tells its SDK that a gateway has dealt with the call.
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("style", STYLES)
def test_it_tries_again_when_the_gateway_was_busy(
    busy: tuple[Stack, ScriptedUpstream], style: str
) -> None:
    stack, upstream = busy
    with (
        client(stack, **options(style, "scripted")) as portkey,
        ThreadPoolExecutor() as pool,
    ):
        portkey.openai_client.max_retries = 5
        answer = pool.submit(portkey.completions.create, model="scripted", prompt=PROMPT)
        assert stack.wait_for_records(1)[0]["code"] == "overloaded"
        upstream.release()
        assert answer.result().choices[0].text == "fine"


def test_nothing_of_portkey_and_no_key_of_the_caller_reaches_the_upstream(
    faulty: Portkey, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(COMPLETION))
    faulty.completions.create(model="scripted", prompt=PROMPT)
    (request,) = scripted.requests
    assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert [name for name, _ in request.headers if b"portkey" in name.lower()] == []
    assert ALICE_KEY.encode() not in b"".join(value for _, value in request.headers)


def test_a_wrong_key_is_refused(stack: Stack) -> None:
    wrong = {**options("hosted"), "api_key": "wrong-key-0123456789"}
    with client(stack, **wrong) as portkey:
        with pytest.raises(Exception, match="Incorrect API key") as caught:
            portkey.completions.create(model="demo-instruct", prompt=PROMPT)
        assert type(caught.value).__name__ == "AuthenticationError"


def test_an_unknown_virtual_key_is_refused(stack: Stack, scripted: ScriptedUpstream) -> None:
    with client(stack, api_key=ALICE_KEY, virtual_key="somebody-elses") as portkey:
        with pytest.raises(Exception, match="virtual-key") as caught:
            portkey.completions.create(model="scripted", prompt=PROMPT)
        assert type(caught.value).__name__ == "BadRequestError"
    assert scripted.requests == []


@pytest.mark.parametrize("style", STYLES)
def test_the_asynchronous_client_gets_whole_and_streamed_answers(stack: Stack, style: str) -> None:
    asked: dict[str, Any] = {"model": "demo-instruct", "prompt": PROMPT, "max_tokens": 8, "seed": 7}

    async def talk() -> tuple[str, str]:
        portkey = AsyncPortkey(base_url=stack.base_url, **options(style))
        try:
            whole = await portkey.completions.create(**asked)
            stream = await portkey.completions.create(**asked, stream=True)
            texts = [event.choices[0].text async for event in stream]
            return whole.choices[0].text, "".join(texts)
        finally:
            await portkey._client.aclose()
            await portkey.openai_client.close()

    whole, streamed = asyncio.run(talk())
    assert whole
    assert streamed == whole


def test_a_refusal_by_policy_is_the_guardrail_error_that_its_users_handle() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
    plugins = [guard, {"use": "portkey", "options": {"providers": {"openai": "main"}}}]
    with gateway(plugins=plugins) as gate:
        url = f"http://127.0.0.1:{gate.port}/v1"
        portkey = Portkey(base_url=url, api_key=KEY, provider="openai")
        with (
            closing(portkey._client),
            closing(portkey.openai_client),
            pytest.raises(Exception, match="Refused by policy: canary in prompt") as caught,
        ):
            portkey.completions.create(model="m", prompt="say CANARY-7781")
        told: Any = caught.value
        assert told.status_code == 446
        (guardrail,) = told.response.json()["hook_results"]["before_request_hooks"]
        assert guardrail["verdict"] is False
        assert [check["id"] for check in guardrail["checks"]] == ["canary"]
        assert gate.upstream.requests == []
        assert gate.record().status == 446  # and it was not tried again


# -- configs -----------------------------------------------------------------------------------------

SCRIPTED = {"virtual_key": "scripted-virtual-key"}
DEMO = {"virtual_key": "demo-virtual-key", "override_params": {"model": "demo-instruct"}}
SOON = [("retry-after-ms", "1")]


@contextmanager
def configured(stack: Stack, config: dict[str, Any], **more: Any) -> Iterator[Portkey]:
    with client(stack, api_key=ALICE_KEY, config=config, **more) as portkey:
        yield portkey


def whence(answer: Any) -> tuple[str, str, str]:
    """Whose answer it is, as the SDK tells its users."""
    headers = answer.get_headers()
    names = ("provider", "last-used-option-index", "retry-attempt-count")
    return tuple(headers[name] for name in names)


def test_a_config_falls_back(stack: Stack, scripted: ScriptedUpstream) -> None:
    scripted.play(json_reply(error("busy"), 429))
    config = {"strategy": {"mode": "fallback"}, "targets": [SCRIPTED, DEMO]}
    with configured(stack, config) as portkey:
        answer = portkey.completions.create(model="scripted", prompt=PROMPT, max_tokens=4)
    assert answer.choices[0].text
    assert whence(answer) == ("openai", "config.targets[1]", "0")
    assert len(scripted.requests) == 1


def test_a_stream_falls_back_too(stack: Stack, scripted: ScriptedUpstream) -> None:
    scripted.play(json_reply(error("busy"), 503))
    config = {"strategy": {"mode": "fallback"}, "targets": [SCRIPTED, DEMO]}
    with configured(stack, config) as portkey:
        stream = portkey.completions.create(
            model="scripted", prompt=PROMPT, max_tokens=4, stream=True
        )
        assert "".join(event.choices[0].text for event in stream)
    assert len(scripted.requests) == 1


def test_a_config_retries_as_often_as_it_says(stack: Stack, scripted: ScriptedUpstream) -> None:
    scripted.play(*[json_reply(error("busy"), 503, SOON)] * 2, json_reply(COMPLETION))
    with configured(stack, {**SCRIPTED, "retry": {"attempts": 3}}) as portkey:
        answer = portkey.completions.create(model="scripted", prompt=PROMPT)
    assert answer.choices[0].text == "fine"
    assert whence(answer) == ("scripted", "config", "2")
    assert len(scripted.requests) == 3


def test_retries_that_are_used_up_end_in_the_upstreams_own_error(
    stack: Stack, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(error("some_code", "Some reason."), 500, SOON))
    with (
        configured(stack, {**SCRIPTED, "retry": {"attempts": 1}}) as portkey,
        pytest.raises(Exception, match="Some reason") as caught,
    ):
        portkey.completions.create(model="scripted", prompt=PROMPT)
    assert type(caught.value).__name__ == "InternalServerError"
    # The gateway has tried again, and the SDK leaves it at that.
    assert len(scripted.requests) == 2


def test_a_config_spreads_its_calls(stack: Stack, scripted: ScriptedUpstream) -> None:
    scripted.play(json_reply(COMPLETION))
    config = {
        "strategy": {"mode": "loadbalance"},
        "targets": [{**SCRIPTED, "weight": 0.5}, {**DEMO, "weight": 0.5}],
    }
    with configured(stack, config) as portkey:
        answers = [
            portkey.completions.create(model="scripted", prompt=PROMPT, max_tokens=1)
            for _ in range(40)
        ]
    places = [whence(answer)[1] for answer in answers]
    assert set(places) == {"config.targets[0]", "config.targets[1]"}
    assert places.count("config.targets[0]") == len(scripted.requests)


@pytest.mark.parametrize(("plan", "target"), [("paid", "1"), ("free", "0")])
def test_a_config_asks_about_the_metadata(
    stack: Stack, scripted: ScriptedUpstream, plan: str, target: str
) -> None:
    scripted.play(json_reply(COMPLETION))
    strategy = {
        "mode": "conditional",
        "conditions": [{"query": {"metadata.plan": {"$eq": "paid"}}, "then": "good"}],
        "default": "cheap",
    }
    targets = [{"name": "cheap", **SCRIPTED}, {"name": "good", **DEMO}]
    config = {"strategy": strategy, "targets": targets}
    with configured(stack, config, metadata={"plan": plan}) as portkey:
        answer = portkey.completions.create(model="scripted", prompt=PROMPT, max_tokens=1)
    assert whence(answer)[1] == f"config.targets[{target}]"


def test_the_model_of_a_config_need_not_be_named_in_the_call(stack: Stack) -> None:
    with configured(stack, DEMO) as portkey:
        answer = portkey.chat.completions.create(
            messages=[{"role": "user", "content": "Hello"}], max_tokens=4
        )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**SCRIPTED, "input_guardrails": [{"default.contains": {}}]}, "input_guardrails"),
        ({**SCRIPTED, "custom_host": "http://127.0.0.1:1"}, "custom_host"),
        ({**SCRIPTED, "api_key": "sk-somebody"}, "api_key"),
    ],
)
def test_what_is_the_operators_to_set_is_a_bad_request(
    stack: Stack, scripted: ScriptedUpstream, config: dict[str, Any], said: str
) -> None:
    with (
        configured(stack, config) as portkey,
        pytest.raises(Exception, match=f"leave out '{said}'") as caught,
    ):
        portkey.completions.create(model="scripted", prompt=PROMPT)
    assert type(caught.value).__name__ == "BadRequestError"
    assert scripted.requests == []
