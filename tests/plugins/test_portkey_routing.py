"""What Portkey's configs make of faults: how often each upstream is tried, and what the caller is told."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.gateway import (
    COMPLETION,
    REPLY,
    STREAMED,
    UPSTREAM_KEY,
    Answer,
    Gateway,
    bearer,
    chunk,
    gateway,
    refused,
)
from tests.upstream import Script, ScriptedUpstream, hang_up, json_reply, rst, silent, sse

FINE = json_reply(REPLY)
SOON = ("retry-after-ms", "1")
FALLBACK = {
    "strategy": {"mode": "fallback"},
    "targets": [{"provider": "main"}, {"provider": "spare"}],
}
RETRY = {"provider": "main", "retry": {"attempts": 2}}
BALANCE = {
    "strategy": {"mode": "loadbalance"},
    "targets": [{"provider": "main"}, {"provider": "spare", "weight": 0}],
}
NOTHING = "http://127.0.0.1:1"


def busy(status: int = 429) -> Script:
    return json_reply(
        {"error": {"message": "Busy.", "type": "x", "param": None, "code": None}}, status, [SOON]
    )


class Pair:
    """A gateway before two upstreams, ``main`` and ``spare``."""

    def __init__(self, gate: Gateway, main: ScriptedUpstream, spare: ScriptedUpstream) -> None:
        self.gate, self.main, self.spare = gate, main, spare

    def ask(self, config: Any, body: Any = COMPLETION, **headers: str) -> Answer:
        text = config if isinstance(config, str) else json.dumps(config)
        named = [(f"x-portkey-{name}", value) for name, value in headers.items()]
        return self.gate.ask(body, [*bearer(), ("x-portkey-config", text), *named])

    @property
    def tries(self) -> tuple[int, int]:
        return len(self.main.requests), len(self.spare.requests)


@contextmanager
def pair(
    main: list[Script],
    spare: list[Script],
    *plugins: Any,
    down: bool = False,
    parameters: Any = None,
    **options: Any,
) -> Iterator[Pair]:
    os.environ["TEST_UPSTREAM_KEY"] = UPSTREAM_KEY
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ScriptedUpstream(*(scripts or [FINE]))) for scripts in (main, spare)
        ]
        urls = [NOTHING if down else servers[0].url, servers[1].url]
        upstreams = {
            name: {
                "provider": "openai_compatible",
                "base_url": f"{url}/v1",
                "allow_private": True,
                "credential": {"env": "TEST_UPSTREAM_KEY"},
            }
            for name, url in zip(("main", "spare"), urls, strict=True)
        }
        listed = {"providers": {"main": "main", "spare": "spare"}, **options}
        gate = stack.enter_context(
            gateway(
                plugins=[*plugins, {"use": "portkey", "options": listed}],
                upstreams=upstreams,
                routes=[{"upstreams": ["spare"]}],
                parameters=parameters or {},
            )
        )
        yield Pair(gate, *servers)
        for server in servers:
            server.release()


def told(answer: Answer) -> tuple[str | None, str | None, str | None]:
    return (
        answer.header("x-portkey-provider"),
        answer.header("x-portkey-last-used-option-index"),
        answer.header("x-portkey-retry-attempt-count"),
    )


@pytest.mark.parametrize(
    ("config", "script", "status", "tries"),
    [
        (FALLBACK, busy(429), 200, (1, 1)),
        (FALLBACK, busy(500), 200, (1, 1)),
        (FALLBACK, busy(400), 200, (1, 1)),
        (FALLBACK, hang_up(), 200, (1, 1)),
        (FALLBACK, rst(), 200, (1, 1)),
        ({**FALLBACK, "request_timeout": 200}, silent(), 200, (1, 1)),
        (RETRY, busy(429), 429, (3, 0)),
        (RETRY, busy(500), 500, (3, 0)),
        (RETRY, busy(400), 400, (1, 0)),
        (RETRY, hang_up(), 502, (1, 0)),
        (RETRY, rst(), 502, (1, 0)),
        ({**RETRY, "request_timeout": 200}, silent(), 504, (1, 0)),
        ({**FALLBACK, "retry": RETRY["retry"]}, busy(503), 200, (3, 1)),
        (BALANCE, busy(429), 429, (1, 0)),
        (BALANCE, busy(500), 500, (1, 0)),
        (BALANCE, hang_up(), 502, (1, 0)),
        ({**BALANCE, "retry": {"attempts": 1}}, busy(429), 429, (2, 0)),
        ({"provider": "main"}, busy(429), 429, (1, 0)),
    ],
)  # fmt: skip
def test_each_upstream_is_tried_as_often_as_the_config_says(
    config: Any, script: Script, status: int, tries: tuple[int, int]
) -> None:
    with pair([script], []) as both:
        answer = both.ask(config)
        assert answer.status == status
        assert both.tries == tries


@pytest.mark.parametrize(
    ("config", "status", "tries"),
    [(FALLBACK, 200, 1), (RETRY, 502, 0), (BALANCE, 502, 0), ({"provider": "main"}, 502, 0)],
)
def test_an_upstream_that_cannot_be_reached_is_passed_over_where_the_config_says_so(
    config: Any, status: int, tries: int
) -> None:
    with pair([], [], down=True) as both:
        answer = both.ask(config)
        assert answer.status == status
        assert both.tries == (0, tries)


def test_a_name_in_a_header_leaves_such_a_failure_to_the_operators_routes() -> None:
    with pair([], [], down=True) as both:
        answer = both.ask("{}", provider="main")
        assert answer.status == 200
        assert both.tries == (0, 1)
        # No config has chosen who answered.
        assert told(answer) == ("outgate", "config", "0")


def test_an_answer_says_which_target_gave_it_and_after_how_many_retries() -> None:
    config = {"retry": {"attempts": 2}, **FALLBACK}
    with pair([busy(), busy(), FINE], []) as both:
        assert told(both.ask(config)) == ("main", "config.targets[0]", "2")
    with pair([busy()], [busy(), FINE]) as both:
        assert told(both.ask(config)) == ("spare", "config.targets[1]", "1")
        record = both.gate.record()
        assert (record.upstream, record.attempts) == ("spare", 5)
        assert [failure.status for failure in record.failures] == [429] * 4


def test_the_last_answer_is_passed_on_when_all_of_them_are_errors() -> None:
    with pair([busy(500)], [busy(429)]) as both:
        answer = both.ask(FALLBACK)
        assert (answer.status, both.tries) == (429, (1, 1))
        assert told(answer) == ("spare", "config.targets[1]", "0")


def test_each_target_gets_its_own_parameters() -> None:
    config = {
        "override_params": {"temperature": 0},
        "strategy": {"mode": "fallback"},
        "targets": [
            {"provider": "main", "override_params": {"model": "large"}},
            {"provider": "spare", "override_params": {"model": "small", "max_tokens": 3}},
        ],
    }
    with pair([busy()], []) as both:
        assert both.ask(config).status == 200
        assert both.main.requests[0].json() == {**COMPLETION, "model": "large", "temperature": 0}
        assert both.spare.requests[0].json() == {
            **COMPLETION, "model": "small", "temperature": 0, "max_tokens": 3,
        }  # fmt: skip


def test_what_a_config_overrides_is_judged_as_all_the_rest_is() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
    with pair([], [], guard) as both:
        config = {"provider": "main", "override_params": {"user": "CANARY-7781"}}
        answer = both.ask(config)
        assert answer.status == 446
        assert b"7781" not in answer.body
        assert both.tries == (0, 0)


def test_a_config_leads_nobody_to_a_model_that_is_not_theirs() -> None:
    models = {"use": "models", "options": {"default": ["m"]}}
    config = {"provider": "main", "override_params": {"model": "expensive"}}
    with pair([], [], models) as both:
        refused(both.ask(config), 403, "model_not_allowed")
        assert both.tries == (0, 0)


def test_a_stream_falls_back_before_its_first_byte() -> None:
    stream = sse([chunk("a"), chunk("", "stop"), "[DONE]"])
    with pair([busy(503)], [stream]) as both:
        answer = both.ask(FALLBACK, STREAMED)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert told(answer) == ("spare", "config.targets[1]", "0")
        assert both.tries == (1, 1)


def test_a_conditional_config_asks_about_the_call_as_it_came() -> None:
    config = {
        "strategy": {
            "mode": "conditional",
            "conditions": [{"query": {"params.model": "fast"}, "then": "small"}],
        },
        "targets": [
            {"name": "small", "provider": "main", "override_params": {"model": "gpt-4o-mini"}}
        ],
    }
    with pair([busy(), FINE], []) as both:
        answer = both.ask({"retry": {"attempts": 1}, **config}, {**COMPLETION, "model": "fast"})
        assert answer.status == 200
        assert {request.json()["model"] for request in both.main.requests} == {"gpt-4o-mini"}
        assert told(answer) == ("main", "config.targets[0]", "1")
        refused(both.ask(config, {**COMPLETION, "model": "slow"}), 400, "invalid_config")


def test_an_id_stands_for_a_config_of_the_operators() -> None:
    with pair([busy()], [], configs={"pc-1": FALLBACK}) as both:
        assert told(both.ask("pc-1")) == ("spare", "config.targets[1]", "0")
        assert both.tries == (1, 1)


def test_nothing_of_a_config_is_in_the_record_or_sent_on() -> None:
    config = {**FALLBACK, "override_params": {"user": "somebody"}}
    with pair([], []) as both:
        both.ask(config)
        assert "somebody" not in repr(both.gate.record())
        assert b"portkey" not in repr(both.main.requests[0].headers).lower().encode()


@pytest.mark.parametrize(
    ("parameters", "override", "code"),
    [
        ({"unknown": "refuse"}, {"guided_regex": "a+"}, "unknown_parameter"),
        ({"unscannable": "refuse"}, {"prompt_embeds": "AAAA"}, "token_prompt_not_scannable"),
        ({"unknown": "refuse"}, {"top_p": 0.5}, None),
    ],
)
def test_what_a_config_sets_is_held_to_the_rules_of_what_callers_send(
    parameters: Any, override: Any, code: str | None
) -> None:
    config = {"provider": "main", "override_params": override}
    with pair([], [], parameters=parameters) as found:
        answer = found.ask(config)
        assert found.tries == ((1, 0) if code is None else (0, 0)), answer.body
        if code is not None:
            refused(answer, 400, code)
