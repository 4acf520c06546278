"""The official Python SDK, through nginx and gunicorn."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.answers import COMPLETION, chunk, error
from tests.e2e.stack import ALICE_KEY, UPSTREAM_KEY, Stack
from tests.upstream import WAIT, ScriptedUpstream, close_unannounced, cut_after, json_reply, sse

PROMPT = "Once upon a time"
#: The SDK waits as long as this header says before it tries again.
AT_ONCE = [("retry-after-ms", "1")]


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=stack.base_url, api_key=ALICE_KEY, max_retries=0) as client:
        yield client


def test_a_completion_comes_whole(client: OpenAI) -> None:
    answer = client.completions.create(model="demo-instruct", prompt=PROMPT, max_tokens=8)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer._request_id


def test_a_streamed_completion_says_the_same_as_a_whole_one(client: OpenAI) -> None:
    whole = client.completions.create(model="demo-instruct", prompt=PROMPT, max_tokens=12, seed=7)
    with client.completions.create(
        model="demo-instruct", prompt=PROMPT, max_tokens=12, seed=7, stream=True
    ) as stream:
        texts = [choice.text for event in stream for choice in event.choices]
    assert len(texts) > 1
    assert "".join(texts) == whole.choices[0].text


def test_usage_comes_at_the_end_of_a_stream_that_asks_for_it(client: OpenAI) -> None:
    with client.completions.create(
        model="demo-instruct",
        prompt=PROMPT,
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        *_, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens > 0


@pytest.mark.parametrize("prompt", [PROMPT, [PROMPT, "And then"]])
def test_every_prompt_has_n_choices(client: OpenAI, prompt: str | list[str]) -> None:
    answer = client.completions.create(model="demo-instruct", prompt=prompt, n=2, max_tokens=4)
    count = 2 * (len(prompt) if isinstance(prompt, list) else 1)
    assert [choice.index for choice in answer.choices] == list(range(count))


def test_chats_embeddings_and_models_answer_too(client: OpenAI) -> None:
    chat = client.chat.completions.create(
        model="demo-instruct", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    assert chat.choices[0].message.content
    embeddings = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert len(embeddings.data) == 2
    assert "demo-instruct" in [model.id for model in client.models.list()]
    assert client.models.retrieve("demo-instruct").id == "demo-instruct"


def test_a_streamed_chat_comes_in_pieces(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="demo-instruct",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=8,
        stream=True,
    ) as stream:
        texts = [choice.delta.content for event in stream for choice in event.choices]
    assert len([text for text in texts if text]) > 1


def test_the_asynchronous_client_gets_whole_and_streamed_answers(stack: Stack) -> None:
    async def talk() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=stack.base_url, api_key=ALICE_KEY) as client:
            whole = await client.completions.create(
                model="demo-instruct", prompt=PROMPT, max_tokens=12, seed=7
            )
            stream = await client.completions.create(
                model="demo-instruct", prompt=PROMPT, max_tokens=12, seed=7, stream=True
            )
            texts = [choice.text async for event in stream for choice in event.choices]
            return whole.choices[0].text, "".join(texts)

    whole, streamed = asyncio.run(talk())
    assert whole
    assert streamed == whole


def test_many_asynchronous_calls_at_once_each_get_their_own_answer(stack: Stack) -> None:
    async def talk() -> list[str]:
        async with AsyncOpenAI(base_url=stack.base_url, api_key=ALICE_KEY) as client:
            calls = [
                client.completions.create(
                    model="demo-instruct", prompt=f"Number {number}", max_tokens=0, echo=True
                )
                for number in range(12)
            ]
            return [answer.choices[0].text for answer in await asyncio.gather(*calls)]

    assert asyncio.run(talk()) == [f"Number {number}" for number in range(12)]


def test_the_first_event_does_not_wait_for_the_second(
    client: OpenAI, scripted: ScriptedUpstream
) -> None:
    scripted.play(sse([chunk("a"), WAIT, chunk("b", "stop"), "[DONE]"]))
    with client.completions.create(model="scripted", prompt="x", stream=True) as stream:
        assert next(stream).choices[0].text == "a"
        scripted.release(1)
        assert [event.choices[0].text for event in stream] == ["b"]


def test_the_upstream_gets_its_own_key_and_never_the_callers(
    client: OpenAI, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(COMPLETION))
    client.with_options(
        default_headers={"OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"}
    ).completions.create(model="scripted", prompt="x")
    (request,) = scripted.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert request.json() == {"model": "scripted", "prompt": "x"}
    assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert request.header("openai-organization") == "org-1"
    assert request.header("openai-project") == "proj-1"
    assert ALICE_KEY.encode() not in b"".join(value for _, value in request.headers)


def test_a_wrong_key_is_an_authentication_error_and_nothing_is_sent(
    client: OpenAI, scripted: ScriptedUpstream
) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="wrong-key-0123456789").completions.create(
            model="scripted", prompt="x"
        )
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id
    assert scripted.requests == []


def test_a_missing_prompt_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", body={"model": "demo-instruct"}, cast_to=object)
    assert caught.value.code == "invalid_prompt"
    assert "You must provide a prompt" in caught.value.message


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="no-such-model", prompt=PROMPT)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_an_error_of_the_upstream_reaches_the_caller_as_it_is(
    client: OpenAI,
    scripted: ScriptedUpstream,
    status: int,
    expected: type[openai.APIStatusError],
) -> None:
    headers = [("x-request-id", "req-1"), ("x-ratelimit-remaining-requests", "0")]
    scripted.play(json_reply(error("some_code", "Some reason."), status, headers))
    with pytest.raises(expected) as caught:
        client.completions.create(model="scripted", prompt="x")
    assert type(caught.value) is expected
    assert caught.value.code == "some_code"
    assert caught.value.body == error("some_code", "Some reason.")["error"]
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_the_sdk_tries_again_by_itself(
    client: OpenAI, scripted: ScriptedUpstream, status: int
) -> None:
    scripted.play(json_reply(error("again"), status, AT_ONCE), json_reply(COMPLETION))
    answer = client.with_options(max_retries=2).completions.create(model="scripted", prompt="x")
    assert answer.choices[0].text == "fine"
    assert len(scripted.requests) == 2


def test_the_sdk_gives_up_after_its_own_number_of_tries(
    client: OpenAI, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(error("again"), 500, AT_ONCE))
    with pytest.raises(openai.InternalServerError):
        client.with_options(max_retries=2).completions.create(model="scripted", prompt="x")
    assert len(scripted.requests) == 3


def test_the_sdk_tries_again_when_the_gateway_was_busy(
    busy: tuple[Stack, ScriptedUpstream],
) -> None:
    stack, upstream = busy
    with (
        OpenAI(base_url=stack.base_url, api_key=ALICE_KEY, max_retries=5) as client,
        ThreadPoolExecutor() as pool,
    ):
        answer = pool.submit(client.completions.create, model="scripted", prompt="x")
        assert stack.wait_for_records(1)[0]["code"] == "overloaded"
        upstream.release()
        assert answer.result().choices[0].text == "fine"


@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_refusal_of_ours_is_not_tried_again(
    client: OpenAI, scripted: ScriptedUpstream, max_retries: int
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.with_options(max_retries=max_retries).completions.create(
            model="scripted", prompt="x", extra_body={"api_base": "http://elsewhere"}
        )
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert scripted.requests == []


def test_an_error_in_mid_stream_is_raised_after_what_came_before(
    client: OpenAI, scripted: ScriptedUpstream
) -> None:
    scripted.play(sse([chunk("a"), error("server_error", "Out of memory.", kind="server_error")]))
    with client.completions.create(model="scripted", prompt="x", stream=True) as stream:
        assert next(stream).choices[0].text == "a"
        with pytest.raises(openai.APIError, match="Out of memory"):
            next(stream)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_that_the_upstream_cuts_is_an_error_not_an_end(
    client: OpenAI, scripted: ScriptedUpstream, framing: str
) -> None:
    events = sse([chunk("a"), chunk("b")], framing=framing)  # type: ignore[arg-type]
    whole = close_unannounced(events)
    scripted.play(cut_after(400, whole) if framing == "chunked" else whole)
    with client.completions.create(model="scripted", prompt="x", stream=True) as stream:
        assert next(stream).choices[0].text == "a"
        with pytest.raises((openai.APIError, openai.APIConnectionError)):
            list(stream)


def test_every_call_leaves_one_record(stack: Stack, client: OpenAI) -> None:
    before = len(stack.records())
    answer = client.completions.create(model="demo-instruct", prompt=PROMPT, max_tokens=2)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="no-such-model", prompt=PROMPT)
    whole, failed = stack.wait_for_records(before + 2)[before:]
    assert (whole["principal"], whole["model"], whole["status"]) == ("alice", "demo-instruct", 200)
    assert whole["outcome"] == "ok"
    assert whole["upstream_request_id"] == answer._request_id
    assert failed["status"] == 404
    text = (stack.folder / "log.jsonl").read_text()
    assert ALICE_KEY not in text
    assert UPSTREAM_KEY not in text
    assert PROMPT not in text
