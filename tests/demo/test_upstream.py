import re

import openai
import pytest

from proxy.demo.events import encoded
from proxy.demo.upstream import span
from tests.demo.conftest import Site

ASK = {"model": "demo-base", "prompt": "The sea", "max_tokens": 4}
ENVELOPE = {"message", "type", "param", "code"}


@pytest.mark.parametrize("base", ["/v1", ""])
def test_every_route_answers_with_and_without_its_version(site: Site, base: str) -> None:
    talk = [{"role": "user", "content": "Hi"}]
    assert site.post(f"{base}/completions", ASK).ok
    assert site.post(
        f"{base}/chat/completions", {"model": "demo-instruct", "messages": talk, "max_tokens": 2}
    ).ok
    assert site.post(f"{base}/embeddings", {"model": "demo-instruct", "input": "Hi"}).ok
    assert site.get(f"{base}/models").json()["object"] == "list"
    assert site.get(f"{base}/models/demo-base").json()["owned_by"] == "outgate-demo"


def test_a_stream_is_events_and_an_end(site: Site) -> None:
    reply = site.post("/v1/completions", ASK | {"stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, end = reply.text.removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    assert all(event.startswith('data: {"id":"cmpl-') for event in events)


def test_every_reply_carries_the_headers_of_the_api(site: Site) -> None:
    for reply in (
        site.post("/v1/completions", ASK, **{"OpenAI-Organization": "org-7"}),
        site.post("/v1/completions", {}, **{"OpenAI-Organization": "org-7"}),
    ):
        assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])
        assert reply.headers["openai-organization"] == "org-7"
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["openai-processing-ms"].isdigit()
        assert reply.headers["x-ratelimit-limit-requests"] == "3500"
        assert reply.headers["x-ratelimit-remaining-requests"] == "3499"
        assert reply.headers["x-ratelimit-reset-requests"] == "17ms"
        assert int(reply.headers["x-ratelimit-remaining-tokens"]) <= 90_000
        assert reply.headers["x-ratelimit-reset-tokens"].endswith("ms")
    assert site.get("/v1/models").headers["openai-organization"] == "demo"


WRONG_ROUTE = (
    "This is a chat model and not supported in the v1/completions endpoint. "
    "Did you mean to use v1/chat/completions?"
)
LONELY_OPTIONS = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
UNKNOWN = "The model 'nope' does not exist or you do not have access to it."


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            {"model": "demo-base"},
            400,
            ("You must provide a prompt", "prompt", "invalid_prompt"),
        ),
        ({"prompt": "x"}, 400, ("You must provide a model parameter.", "model", None)),
        ({"model": "nope", "prompt": "x"}, 404, (UNKNOWN, "model", "model_not_found")),
        (
            ASK | {"stream_options": {"include_usage": True}},
            400,
            (LONELY_OPTIONS, "stream_options", None),
        ),
        (ASK | {"model": "gpt-4o-mini"}, 404, (WRONG_ROUTE, "model", None)),
    ],
)
def test_errors_have_the_words_of_the_api(
    site: Site, body: object, status: int, error: tuple[str, str, str | None]
) -> None:
    reply = site.post("/v1/completions", body)
    message, param, code = error
    assert reply.status_code == status
    assert reply.json() == {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": param,
            "code": code,
        }
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model": NaN}',
        b"\xff",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(site: Site, raw: bytes) -> None:
    reply = site.post("/v1/completions", raw)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == ENVELOPE


def test_a_model_of_another_kind_is_refused(site: Site) -> None:
    assert site.post("/v1/chat/completions", {"model": "demo-base"}).status_code == 404
    assert site.post("/v1/embeddings", {"model": "demo-base"}).status_code == 403


def test_what_the_framework_refuses_has_the_same_envelope(site: Site) -> None:
    nowhere = site.get("/v1/nowhere")
    wrong = site.get("/v1/completions")
    huge = site.post("/v1/completions", b" " * (8 * 1024 * 1024 + 1))
    assert [one.status_code for one in (nowhere, wrong, huge)] == [404, 405, 413]
    assert all(set(one.json()["error"]) == ENVELOPE for one in (nowhere, wrong, huge))
    assert "POST" in wrong.headers["allow"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}]
)
def test_only_the_right_key_opens(locked: Site, headers: dict[str, str]) -> None:
    reply = locked.post("/v1/completions", ASK, **headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert "wrong" not in reply.text


def test_the_python_client_lists_models_with_the_right_key_only(locked: Site) -> None:
    names = [model.id for model in locked.sdk("sk-right-key").models.list()]
    assert "gpt-3.5-turbo-instruct" in names
    assert locked.sdk("sk-right-key").models.retrieve("demo-base").created > 0
    with pytest.raises(openai.NotFoundError):
        locked.sdk("sk-right-key").models.retrieve("nope")
    with pytest.raises(openai.AuthenticationError):
        locked.sdk("sk-wrong-key").models.list()


def test_text_beyond_utf_8_is_escaped_and_all_other_text_is_not() -> None:
    assert encoded({"a": "é☃"}) == '{"a":"é☃"}'.encode()
    assert encoded({"a": "\ud800"}) == b'{"a":"\\ud800"}'


def test_a_lone_surrogate_comes_back_as_it_was_sent(site: Site) -> None:
    raw = b'{"model": "demo-base", "prompt": "\\ud83d", "echo": true, "max_tokens": 0}'
    assert b'"text":"\\ud83d"' in site.post("/v1/completions", raw).content


def test_durations_read_like_those_of_the_api() -> None:
    assert [span(0.017), span(6.5), span(60), span(90)] == ["17ms", "6.5s", "1m0s", "1m30s"]
