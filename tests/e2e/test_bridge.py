"""Programs that speak completions, through nginx and gunicorn, to a model that only has the chat route."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import openai
import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_openai import OpenAI as LangChain
from openai import OpenAI

from proxy.demo import create_upstream, running
from tests.e2e.stack import ALICE_KEY, UPSTREAM_KEY, Stack, configuration, running_stack

#: The demo upstream's model that refuses completions.
MODEL = "gpt-4o-mini"
PROMPT = "Once upon a time"
BRIDGE = """
[upstreams.chats.bridge]
always = true
suffix = "Write what stands between A and B.\\nA: {prompt}\\nB: {suffix}"
"""


@pytest.fixture(scope="module")
def chats(need_nginx: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("bridge")
    with running(create_upstream(api_key=UPSTREAM_KEY)) as demo:
        text = configuration({"chats": f"{demo}/v1"}, folder / "log.jsonl") + BRIDGE
        with running_stack(folder, text) as stack:
            yield stack


@pytest.fixture
def client(chats: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=chats.base_url, api_key=ALICE_KEY, max_retries=0) as client:
        yield client


def test_a_completion_comes_whole_and_streamed_alike(client: OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=PROMPT, seed=7)
    assert whole.object == "text_completion"
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 16
    with client.completions.create(model=MODEL, prompt=PROMPT, seed=7, stream=True) as stream:
        chunks = list(stream)
    assert "".join(choice.text for one in chunks for choice in one.choices) == whole.choices[0].text
    assert len({one.id for one in chunks}) == 1


def test_every_prompt_has_n_choices_and_its_echo(client: OpenAI) -> None:
    prompts = [PROMPT, "And then"]
    answer = client.completions.create(model=MODEL, prompt=prompts, n=2, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text.startswith(prompts[choice.index // 2]) for choice in answer.choices] == [
        True
    ] * 4


def test_usage_of_all_prompts_comes_at_the_end_of_a_stream(client: OpenAI) -> None:
    with client.completions.create(
        model=MODEL, prompt=[PROMPT] * 3, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *_, last = stream
    one = client.completions.create(model=MODEL, prompt=PROMPT)
    assert last.usage is not None
    assert one.usage is not None
    assert last.usage.prompt_tokens == 3 * one.usage.prompt_tokens


def test_log_probabilities_have_their_old_form(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, logprobs=2, max_tokens=5)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.text_offset is not None
    assert choice.logprobs.text_offset[0] == 0
    assert choice.logprobs.top_logprobs is not None
    assert all(len(top) in {2, 3} for top in choice.logprobs.top_logprobs)


def test_the_best_of_several_is_chosen_here(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, best_of=4, n=1, max_tokens=6)
    assert len(answer.choices) == 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 6


def test_a_suffix_goes_into_the_operators_text(client: OpenAI, chats: Stack) -> None:
    assert client.completions.create(
        model=MODEL, prompt="The old", suffix="is made of stone"
    ).choices
    assert chats.wait_for_records(1)[-1]["bridged"] == 1


def test_what_cannot_be_is_a_bad_request_that_says_what_to_do(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="leave out echo or logprobs") as caught:
        client.completions.create(model=MODEL, prompt=PROMPT, echo=True, logprobs=1)
    assert caught.value.code == "bridge_cannot"


def test_langchain_completes_streams_and_batches(chats: Stack) -> None:
    llm = LangChain(
        model=MODEL,
        base_url=chats.base_url,
        api_key=ALICE_KEY,  # type: ignore[arg-type]
        max_tokens=12,
        seed=7,
        max_retries=0,
    )
    prompts: list[LanguageModelInput] = [PROMPT, "And then", "The end"]
    assert llm.batch(prompts) == [llm.invoke(prompt) for prompt in prompts]
    assert "".join(llm.stream(PROMPT)) == llm.invoke(PROMPT)
    llm.client._client.close()
    asyncio.run(llm.async_client._client.close())


LLAMA_INDEX = """
import sys
from llama_index.llms.openai_like import OpenAILike

base, key, model, prompt = sys.argv[1:]
llm = OpenAILike(
    model=model, api_base=base, api_key=key, is_chat_model=False, max_tokens=12, temperature=0,
    context_window=4000,
)
whole = llm.complete(prompt).text
assert whole
assert "".join(part.delta for part in llm.stream_complete(prompt)) == whole
"""


#: Clients that ask for an older OpenAI SDK than the one that is tested here have an environment of their own.
CLIENTS: Final = Path(sys.prefix, "clients", "bin")


def program(name: str) -> str:
    """A program of that environment."""
    return shutil.which(name, path=str(CLIENTS)) or pytest.skip("make clients")


def test_llama_index_completes_and_streams(chats: Stack) -> None:
    words = [program("python"), "-c", LLAMA_INDEX, chats.base_url, ALICE_KEY, MODEL, PROMPT]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_the_command_llm_completes(chats: Stack, tmp_path: Path, how: str) -> None:
    command = program("llm")
    model = {"model_id": "bridged", "model_name": MODEL, "api_base": chats.base_url}
    more = {"api_key_name": "outgate", "completion": True}
    # JSON is YAML, too.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([{**model, **more}]))
    (tmp_path / "keys.json").write_text(json.dumps({"outgate": ALICE_KEY}))
    options = [] if how == "--stream" else [how]
    done = subprocess.run(
        [command, "-m", "bridged", *options, "-o", "temperature", "0", PROMPT],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3
