"""Under real gunicorn, with the official SDK: what one worker kept, all of them answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.e2e.answers import COMPLETION
from tests.e2e.load import workers
from tests.e2e.stack import ALICE_KEY, SECRETS, Stack, configuration, running_stack
from tests.records import eventually
from tests.upstream import ScriptedUpstream, json_reply

CACHE = """
[[plugins]]
use = "response_cache"
options = { secret = { env = "CACHE_SECRET" }, path = "PATH" }
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    with ScriptedUpstream(json_reply(COMPLETION)) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        config += CACHE.replace("PATH", str(tmp_path / "cache.db"))
        environment = {**SECRETS, "CACHE_SECRET": "a secret of thirty-two characters"}
        with running_stack(
            tmp_path, config, workers=3, front=False, environment=environment
        ) as stack:
            yield stack, upstream


def complete(stack: Stack) -> str | None:
    """Ask on a connection of its own, which any worker may take; what says whether it was a hit."""
    with OpenAI(base_url=f"{stack.direct}/v1", api_key=ALICE_KEY, max_retries=0) as client:
        raw = client.completions.with_raw_response.create(
            model="scripted", prompt="Hello", temperature=0
        )
        assert raw.parse().choices[0].text == COMPLETION["choices"][0]["text"]
        return raw.headers.get("x-outgate-cache")


def test_what_one_worker_kept_all_of_them_answer(served: tuple[Stack, ScriptedUpstream]) -> None:
    stack, upstream = served
    assert len(workers(stack)) == 3
    assert complete(stack) is None
    eventually(lambda: complete(stack) == "hit")
    sent = len(upstream.requests)
    assert [complete(stack) for _ in range(30)] == ["hit"] * 30
    assert len(upstream.requests) == sent


def test_on_one_connection_the_next_call_is_a_hit_at_once(
    served: tuple[Stack, ScriptedUpstream],
) -> None:
    stack, upstream = served
    with OpenAI(base_url=f"{stack.direct}/v1", api_key=ALICE_KEY, max_retries=0) as client:
        for _ in range(5):
            client.completions.create(model="scripted", prompt="Hello", temperature=0)
        with client.completions.create(
            model="scripted", prompt="Hello", temperature=0, stream=True
        ) as stream:
            said = "".join(choice.text for event in stream for choice in event.choices)
    assert said == COMPLETION["choices"][0]["text"]
    assert len(upstream.requests) == 1
