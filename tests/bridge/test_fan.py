"""The parts of a call in parallel: what becomes of it when some of them cannot even be sent."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.bridge.crossing import cross
from proxy.bridge.fan import Fan
from proxy.bridge.plan import Part
from proxy.bridge.way import Allowance, Way
from proxy.bridge.whole import completion
from proxy.egress import Handle, UpstreamReply
from proxy.errors import UpstreamError
from proxy.reading import sse_event
from proxy.sse import DONE, EventReader, encode_event
from proxy.stream import assemble
from tests.bridge.chats import chat, plan, told

PLAN: Final = plan(prompt=["a", "b", "c"])


class Reply:
    """An answer that came from nowhere."""

    address, reused, attempts = "192.0.2.1:443", False, 1
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def __init__(self, status: int = 200, events: list[bytes] | None = None) -> None:
        self.status = status
        self.closed = False
        self.events = events
        if events is not None:
            self.headers = (("content-type", "text/event-stream"),)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def pieces(self) -> Iterator[bytes]:
        yield from self.events or [json.dumps(chat("x")).encode()]

    def close(self) -> None:
        self.closed = True


def way(outcomes: Mapping[str, Any], parallel: int = 3, handle: Handle | None = None) -> Way:
    """A way on which the chat of each prompt ends as ``outcomes`` says, else is answered."""

    def send(part: Part, handle: Handle) -> UpstreamReply:
        outcome = outcomes.get(json.loads(part.body)["messages"][0]["content"], Reply())
        if isinstance(outcome, Exception):
            raise outcome
        return cast(UpstreamReply, outcome)

    return Way(
        send=send,
        handle=handle or Handle(),
        parallel=parallel,
        reply_bytes=100_000,
        event_bytes=10_000,
        unsent=frozenset({"connect", "resolve"}),
    )


def unsent(kind: str = "connect") -> UpstreamError:
    return UpstreamError(kind, "nobody listens")


def test_a_call_of_which_nothing_was_sent_fails_with_the_first_reason() -> None:
    with pytest.raises(UpstreamError, match=r"^(connect|resolve): nobody listens"):
        cross(PLAN, way({"a": unsent(), "b": unsent("resolve"), "c": unsent()}))


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("failing", ["b", "c"])
def test_a_call_of_which_a_part_was_sent_is_not_for_another_upstream(
    failing: str, parallel: int
) -> None:
    with pytest.raises(UpstreamError) as caught:
        cross(PLAN, way({failing: unsent()}, parallel))
    assert caught.value.kind == "cut"
    assert "connect: nobody listens" in caught.value.detail
    assert caught.value.bytes_received


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("error", [UpstreamError("timeout_first_byte", "x"), RuntimeError("ours")])
def test_any_other_failure_is_the_calls_own(error: Exception, parallel: int) -> None:
    with pytest.raises(type(error)) as caught:
        cross(PLAN, way({"b": error}, parallel))
    assert caught.value is error


def test_an_error_status_is_given_as_it_came_and_left_open_to_be_read() -> None:
    failed = Reply(500)
    assert cross(PLAN, way({"b": failed})) is cast(Any, failed)
    assert not failed.closed


def test_every_answer_is_closed_in_the_end() -> None:
    replies = {name: Reply() for name in "abc"}
    cross(PLAN, way(replies))
    assert all(reply.closed for reply in replies.values())


def test_a_fan_that_was_closed_says_so_to_whoever_waits() -> None:
    fan = Fan(way({}), PLAN.parts)
    fan.close()
    fan.start()
    with pytest.raises(UpstreamError, match="the call is over"):
        fan.heads()
    with pytest.raises(UpstreamError, match="the call is over"):
        next(fan.heard())


def test_closing_ends_the_parts_and_not_the_call() -> None:
    whole = Handle()
    seen: list[Handle] = []
    asked = way({}, handle=whole)

    def send(_: Part, handle: Handle) -> UpstreamReply:
        seen.append(handle)
        fan.close()
        raise UpstreamError("client_gone", "ended")

    fan = Fan(
        Way(
            **{key: getattr(asked, key) for key in Way.__struct_fields__ if key != "send"},
            send=send,
        ),
        PLAN.parts[:1],
    )
    fan.start()
    with pytest.raises(UpstreamError):
        fan.heads()
    assert [handle.reason for handle in seen] == ["client_gone"]
    assert whole.reason is None


def test_the_allowance_is_one_for_all_parts() -> None:
    allowance = Allowance(10)
    allowance.take(6)
    with pytest.raises(UpstreamError, match="larger than 10 bytes"):
        allowance.take(5)


def test_an_error_that_nobody_waits_for_any_more_is_closed() -> None:
    failed = Reply(500)
    over = threading.Event()
    asked = way({})

    def send(*_: Any) -> UpstreamReply:
        fan.close()
        over.set()
        return cast(UpstreamReply, failed)

    fields = {key: getattr(asked, key) for key in Way.__struct_fields__}
    fan = Fan(Way(**{**fields, "send": send}), PLAN.parts[:1])
    fan.start()
    assert over.wait(30)
    while not failed.closed:
        over.wait(0.001)


def test_the_one_answer_is_held_to_the_limit_of_whoever_reads_it() -> None:
    reply = cross(plan(), way({}))
    with pytest.raises(UpstreamError, match="larger than 5 bytes"):
        reply.read(5)


def cut_anywhere(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % len(data) for cut in cuts), len(data)]
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False) if start < end]


@given(
    words=st.lists(st.lists(st.text(max_size=4), max_size=6), min_size=1, max_size=3),
    cuts=st.lists(st.lists(st.integers(0, 5000), max_size=20), min_size=3, max_size=3),
    parallel=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_streams_cut_anywhere_and_in_any_order_are_the_whole(
    words: list[list[str]], cuts: list[list[int]], parallel: int
) -> None:
    prompts = [str(number) for number in range(len(words))]
    made = plan(prompt=prompts, stream=True, echo=True)
    streams = {
        prompt: Reply(events=cut_anywhere(
            b"".join([*map(sse_event, told(*said)), encode_event(DONE)]), cut
        ))
        for prompt, said, cut in zip(prompts, words, cuts, strict=False)
    }  # fmt: skip
    data = b"".join(cross(made, way(streams, parallel)).pieces())
    *chunks, last = [event.data or b"" for event in EventReader(100_000).feed(data)]
    assert last == DONE
    wanted = completion(made, [chat("".join(said)) for said in words])
    streamed = assemble("completions", map(json.loads, chunks))
    assert [(one["index"], one["text"]) for one in streamed["choices"]] == [
        (one["index"], one["text"]) for one in wanted["choices"]
    ]


def wait_for_threads() -> None:
    while any(one.name.startswith("outgate-bridge") for one in threading.enumerate()):
        time.sleep(0.001)


@pytest.mark.parametrize("parallel", [1, 3])
def test_of_several_error_statuses_one_is_the_answer_and_the_others_are_closed(
    parallel: int,
) -> None:
    failed = {name: Reply(500) for name in "abc"}
    told = cross(PLAN, way(failed, parallel))
    wait_for_threads()
    asked = [failed[name] for name in ("abc" if parallel == 3 else "a")]
    assert [reply for reply in asked if not reply.closed] == [cast(Any, told)]


def test_an_error_status_that_nobody_read_in_time_is_closed() -> None:
    late = Reply(500)
    fan = Fan(way({"b": late}, 1), PLAN.parts)
    fan.start()
    fan.heads()
    next(fan.heard())
    wait_for_threads()
    fan.close()
    assert late.closed
