import logging
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import Call, Deny, Principal, Record, Secret
from proxy.errors import ApiError, UpstreamError
from proxy.exchange import Denied, Exchange, Outgoing
from proxy.steps import Running
from tests.gateway import COMPLETION, JSON, KEY, gateway


def exchange(records: list[Record]) -> Exchange:
    return Exchange("completions", "127.0.0.1", Running(), lambda _, record: records.append(record))


def test_only_the_first_end_counts_and_the_last_resource_is_released_first() -> None:
    records: list[Record] = []
    released: list[str] = []
    call = exchange(records)
    call.on_finish(lambda: released.append("first"))
    call.on_finish(lambda: released.append("second"))
    call.finish("ok", 200)
    call.finish("client_gone", 499)
    assert [record.outcome for record in records] == ["ok"]
    assert released == ["second", "first"]


def test_a_resource_that_cannot_be_released_keeps_no_other_and_no_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    records: list[Record] = []
    released: list[str] = []
    call = exchange(records)
    call.on_finish(lambda: released.append("first"))
    call.on_finish(lambda: 1 / 0)
    call.finish("ok", 200)
    assert (released, len(records)) == (["first"], 1)
    assert "could not be released" in caplog.text


def test_a_record_that_cannot_be_told_harms_no_caller(caplog: pytest.LogCaptureFixture) -> None:
    def tell(_: Exchange, __: Record) -> None:
        raise RuntimeError("full")

    call = Exchange("completions", "", Running(), tell)
    with caplog.at_level(logging.ERROR):
        call.finish("ok", 200)
    assert "could not be recorded" in caplog.text


def test_what_others_wrote_is_clipped_in_the_record() -> None:
    records: list[Record] = []
    call = exchange(records)
    long = "x" * 100_000
    call.call = Call(
        id=call.id, endpoint="completions", body={}, principal=Principal("alice"), model=long
    )
    call.facts |= {"upstream_request_id": long, "finish_reasons": (long,) * 1000}
    call.finish("ok", 200)
    (record,) = records
    assert record.model == record.upstream_request_id == long[:256]
    assert (len(record.finish_reasons), record.finish_reasons[0]) == (128, long[:256])


@pytest.mark.parametrize(
    ("deny", "status", "kind"),
    [
        (Deny("no"), 400, "invalid_request_error"),
        (Deny("no", status=403), 403, "invalid_request_error"),
        (Deny("no", status=503), 503, "server_error"),
        (Deny("no", status=200), 500, "server_error"),
        (Deny("no", status=204), 500, "server_error"),
        (Deny("no", status="400"), 500, "server_error"),  # type: ignore[arg-type]
        (Deny("no", status=True), 500, "server_error"),
        (Deny("no", status=600), 500, "server_error"),
    ],
)
def test_a_deny_is_always_a_refusal(deny: Deny, status: int, kind: str) -> None:
    denied = Denied(deny, "guard")
    assert (denied.status, denied.type, denied.by) == (status, kind, "guard")


@pytest.mark.parametrize("message", ["half \ud800", Secret("sk-1"), 7, None, "\u2028\0é"])
def test_a_refusal_leaves_whatever_its_message_is(message: Any) -> None:
    records: list[Record] = []
    answer = exchange(records).refuse(Denied(Deny(message), "guard"), by="guard")
    (data,) = answer.body
    assert data.isascii()
    assert b"sk-1" not in data
    assert (records[0].outcome, records[0].denied_by) == ("denied", "guard")
    assert (records[0].bytes_out, dict(answer.headers)["content-length"]) == (
        len(data),
        str(len(data)),
    )


def test_the_upstream_s_request_id_is_kept_beside_ours() -> None:
    call = exchange([])
    assert dict(call.signed([])) == {"x-request-id": call.id, "x-outgate-id": call.id}
    theirs = dict(call.signed([("x-request-id", "req-1")]))
    assert theirs == {"x-request-id": "req-1", "x-outgate-id": call.id}


def pieces(closed: list[str], *, fail: bool = False) -> Iterator[bytes]:
    try:
        yield b"abc"
        if fail:
            raise RuntimeError("a bug")
    finally:
        closed.append("closed")


def outcomes(records: list[Record]) -> list[tuple[str, int, str | None]]:
    return [(record.outcome, record.bytes_out, record.code) for record in records]


def test_a_reply_that_is_closed_early_belongs_to_a_caller_who_is_gone() -> None:
    for read, closed in ((0, []), (1, ["closed"])):
        records: list[Record] = []
        seen: list[str] = []
        outgoing = Outgoing(pieces(seen), exchange(records), 200)
        for _ in range(read):
            next(outgoing)
        outgoing.close()
        outgoing.close()
        assert outcomes(records) == [("client_gone", 3 * read, None)]
        assert seen == closed


def test_a_reply_that_nobody_closes_is_recorded_all_the_same() -> None:
    records: list[Record] = []
    outgoing = Outgoing(pieces([]), exchange(records), 200)
    next(outgoing)
    del outgoing
    assert outcomes(records) == [("client_gone", 3, None)]


def test_a_reply_that_breaks_in_our_hands_is_truncated() -> None:
    records: list[Record] = []
    outgoing = Outgoing(pieces([], fail=True), exchange(records), 200)
    with pytest.raises(RuntimeError):
        list(outgoing)
    outgoing.close()
    assert outcomes(records) == [("truncated", 3, "internal_error")]


def test_a_reply_that_cannot_be_closed_is_recorded() -> None:
    class Stubborn:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return b""

        def close(self) -> None:
            raise RuntimeError("no")

    records: list[Record] = []
    outgoing = Outgoing(Stubborn(), exchange(records), 200)
    with pytest.raises(RuntimeError):
        outgoing.close()
    assert len(records) == 1
    outgoing._pieces = iter([b"a list's iterator has no close"])
    outgoing.close()


def test_a_failure_names_the_upstream_that_was_asked_last() -> None:
    records: list[Record] = []
    call = exchange(records)
    for name in ("first", "second"):
        call.facts["upstream"] = name
        call.failed(UpstreamError("connect", "nobody listens"))
    call.refuse(ApiError("no"), "upstream_error")
    assert [failure.upstream for failure in records[0].failures] == ["first", "second"]


def test_a_caller_who_asks_is_told_what_was_found_and_how_often() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{1,9}"}}}
    asking = [JSON, ("Authorization", f"Bearer {KEY}"), ("X-Outgate-Findings", "1")]
    with gateway(plugins=[guard], policy={"request": {"ticket": "redact"}}) as gate:
        found = gate.ask({**COMPLETION, "prompt": "T-1 and T-2"}, asking)
        assert found.header("x-outgate-findings") == "ticket=2"
        assert gate.ask(COMPLETION, asking).header("x-outgate-findings") == "none"
        assert gate.ask(COMPLETION).header("x-outgate-findings") is None
