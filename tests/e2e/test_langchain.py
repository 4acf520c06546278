"""LangChain's class for completions, through nginx and gunicorn."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_openai import OpenAI

from tests.e2e.answers import COMPLETION, error
from tests.e2e.stack import ALICE_KEY, Stack
from tests.upstream import ScriptedUpstream, json_reply

PROMPT = "Once upon a time"


def model(stack: Stack, name: str = "demo-instruct", *, max_retries: int = 0) -> OpenAI:
    return OpenAI(
        model=name,
        base_url=stack.base_url,
        api_key=ALICE_KEY,  # type: ignore[arg-type]
        max_tokens=12,
        seed=7,
        max_retries=max_retries,
    )


@pytest.fixture
def llm(stack: Stack) -> Iterator[OpenAI]:
    llm = model(stack)
    yield llm
    llm.client._client.close()
    asyncio.run(llm.async_client._client.close())


def test_an_answer_comes_whole(llm: OpenAI) -> None:
    assert llm.invoke(PROMPT)


def test_a_streamed_answer_says_the_same_as_a_whole_one(llm: OpenAI) -> None:
    texts = list(llm.stream(PROMPT))
    assert len(texts) > 1
    assert "".join(texts) == llm.invoke(PROMPT)


def test_a_batch_is_answered_in_order(llm: OpenAI) -> None:
    prompts: list[LanguageModelInput] = [PROMPT, "And then", "The end"]
    assert llm.batch(prompts) == [llm.invoke(prompt) for prompt in prompts]


def test_the_asynchronous_call_says_the_same(llm: OpenAI) -> None:
    async def talk() -> str:
        try:
            return await llm.ainvoke(PROMPT)
        finally:
            await llm.async_client._client.close()

    assert asyncio.run(talk()) == llm.invoke(PROMPT)


def test_an_unknown_model_is_not_found(stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError):
        model(stack, "no-such-model").invoke(PROMPT)


def test_it_tries_again_by_itself(stack: Stack, scripted: ScriptedUpstream) -> None:
    again = json_reply(error("again"), 429, [("retry-after-ms", "1")])
    scripted.play(again, json_reply(COMPLETION))
    assert model(stack, "scripted", max_retries=2).invoke(PROMPT) == "fine"
    assert len(scripted.requests) == 2
