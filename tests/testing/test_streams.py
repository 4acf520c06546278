"""Streams in the harness: cut as a test wants them, with what the caller sees of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy import Call, Detector, Reply, hookimpl
from proxy.testing import PluginFailed, harness
from proxy.testing.replies import cut, cuttings, text_reply


@dataclass(frozen=True)
class Tickets:
    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        yield Detector.regex("ticket", r"TICKET-[0-9]{4,8}\b")


@dataclass(frozen=True)
class Shouts:
    @hookimpl
    def rewrite_response(self, call: Call, reply: Reply) -> Reply | None:
        said = reply.body.get("choices")
        if not said or call.endpoint != "completions":
            return None
        return reply.with_body(choices=[{**c, "text": (c.get("text") or "").upper()} for c in said])


def under(plugin: Any, **policy: Any) -> Any:
    return harness(plugin).given(config={"policy": policy})


def test_what_is_masked_leaves_masked_and_comes_back_in_a_stream() -> None:
    masking = under(Tickets, request={"ticket": "mask"})
    result = masking.stream(lambda body: f"about {body['prompt']}", prompt="TICKET-1234")
    assert "1234" not in result.left["prompt"]
    assert result.left["stream"] is True
    assert result.shown == "about TICKET-1234"
    assert result.record.stream


@pytest.mark.parametrize("pieces", [None, 1, 3, (2, 5, 1), 100])
@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_stream_becomes_the_same_however_it_is_cut(pieces: Any, endpoint: Any) -> None:
    redacting = under(Tickets, response={"ticket": "redact"})
    result = redacting.stream("see TICKET-1234, TICKET-12", pieces, endpoint)
    assert result.shown == "see [TICKET], TICKET-12"
    assert len(result.events) > 1
    assert harness(Tickets).redact("see TICKET-1234, TICKET-12", pieces) == result.shown


def test_a_stream_that_is_denied_ends_there() -> None:
    result = under(Tickets, response={"ticket": "deny"}).stream("see TICKET-1234 and more")
    assert result.denied is not None
    assert result.denied.code == "content_policy_violation"
    assert result.shown == "see "
    assert result.events[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert result.record.outcome == "denied"


def test_a_rewritten_stream_is_read_to_its_end_and_streamed_again() -> None:
    result = harness(Shouts).stream("quiet words", pieces=2)
    assert result.shown == "QUIET WORDS"
    assert result.events[-1]["choices"][0]["finish_reason"] == "stop"


def test_chunks_of_ones_own_are_streamed_as_they_are() -> None:
    choice = {"index": 0, "text": "TICKET-1234", "logprobs": None, "finish_reason": "stop"}
    chunk = {**text_reply("completions", ""), "choices": [choice]}
    assert harness(Tickets).stream([chunk]).events == (chunk,)


def test_a_long_text_is_cut_into_more_than_characters() -> None:
    text = "word " * 2_000
    assert harness(Tickets).redact(text) == text
    names = [name for name, _ in cuttings(text)]
    assert names[0] == "pieces of 5 characters"


def test_pieces_are_cut_as_they_are_named() -> None:
    assert cut("abcdef", 4) == ["abcd", "ef"]
    assert cut("abcdef", (1, 2)) == ["a", "bc", "def"]
    assert cut("ab", (1, 2, 3)) == ["a", "b"]
    assert dict(cuttings("abcdef")) == dict(cuttings("abcdef"))
    assert all("".join(pieces) == "abcdef" for _, pieces in cuttings("abcdef"))
    for wrong in (0, -1, (2, 0)):
        with pytest.raises(ValueError, match="above zero"):
            cut("ab", wrong)


def test_embeddings_say_no_text() -> None:
    with pytest.raises(ValueError, match="embeddings answers with no text: use one of"):
        harness(Tickets).stream("text", endpoint="embeddings")


def test_redact_is_for_detectors() -> None:
    with pytest.raises(PluginFailed, match=r"no detectors, so there is nothing to redact"):
        harness(Shouts).redact("text")


def test_a_result_says_what_left_what_is_shown_and_how_long_it_took() -> None:
    result = harness(Tickets).respond(text_reply("chat", "Hello"), "chat")
    assert result.left == result.body
    assert result.shown == "Hello"
    assert result.seconds > 0
    refused = harness(Tickets).completions(prompt="TICKET-1234")
    assert (refused.left, refused.shown) == (None, "")
    assert harness(Tickets).respond({"choices": []}).shown == ""
