"""A replay tells the calls that another policy judges otherwise, and what it could not judge."""

from pathlib import Path
from typing import Any

from proxy.rehearsal.decision import ASPECTS
from proxy.rehearsal.judging import Judge
from proxy.rehearsal.loading import rehearsed
from proxy.rehearsal.replaying import Change, Replay
from proxy.rehearsal.samples import Skipped, of_lines
from tests.rehearsal.material import HEAD, TICKETS, line

HELLO: dict[str, Any] = {"endpoint": "completions", "body": {"model": "m", "prompt": "Hello"}}
TICKET: dict[str, Any] = {
    "endpoint": "completions",
    "body": {"model": "m", "prompt": "TICKET-4711"},
}
REDACTING = TICKETS + '[policy.request]\nticket = "redact"\n'
PREFIX = '[[plugins]]\nuse = "prompt_template"\noptions = { prefix = "Be brief. " }\n'


def judge(folder: Path, name: str, text: str) -> Judge:
    path = folder / name
    path.write_text(HEAD + text)
    return Judge(rehearsed(path))


def replayed(
    folder: Path, following: str, current: str | None, *calls: dict[str, Any], only: tuple[str, ...] = ASPECTS
) -> list[Change]:  # fmt: skip
    path = folder / "samples.jsonl"
    path.write_text("".join(line(**call) for call in calls))
    before = None if current is None else judge(folder, "outgate.toml", current)
    run = Replay(judge(folder, "next.toml", following), before, only)
    found = list(run.changes(of_lines(path)))
    assert run.judged == len(calls)
    return found


def test_a_call_that_would_be_refused_is_a_change_of_what_was_recorded(tmp_path: Path) -> None:
    (change,) = replayed(tmp_path, TICKETS, None, HELLO, TICKET)
    assert (change.id, change.differs) == ("line 2", ("verdict",))
    assert (change.before.verdict, change.after.by) == ("allowed", "tickets")


def test_a_call_that_is_refused_as_it_was_is_none(tmp_path: Path) -> None:
    was = {**TICKET, "denied_by": "tickets", "code": "content_policy_violation"}
    assert replayed(tmp_path, TICKETS, None, was) == []
    (change,) = replayed(tmp_path, "", None, was)
    assert (change.before.by, change.after.verdict) == ("tickets", "allowed")


def test_what_would_leave_otherwise_than_it_left_is_a_change(tmp_path: Path) -> None:
    (change,) = replayed(tmp_path, REDACTING, None, HELLO, TICKET)
    assert change.differs == ("body",)
    assert change.after.findings == {"ticket redact": 1}
    masking = TICKETS + '[policy.request]\nticket = "mask"\n'
    (change,) = replayed(tmp_path, masking, None, TICKET)
    assert change.differs == ("body",)


def test_two_policies_are_compared_with_each_other(tmp_path: Path) -> None:
    masking = TICKETS + '[policy.request]\nticket = "mask"\n'
    assert replayed(tmp_path, masking, masking, HELLO, TICKET) == []
    (change,) = replayed(tmp_path, PREFIX + masking, masking, HELLO)
    assert change.differs == ("body",)
    (change,) = replayed(tmp_path, REDACTING, masking, TICKET)
    assert change.differs == ("body", "findings")


def test_replies_are_judged_where_there_are_any(tmp_path: Path) -> None:
    told = {"choices": [{"index": 0, "text": "TICKET-4711", "finish_reason": "stop"}]}
    following = TICKETS + '[policy.response]\nticket = "deny"\n'
    (change,) = replayed(tmp_path, following, None, {**HELLO, "reply": told})
    assert change.differs == ("reply",)
    assert (change.before.reply, change.after.reply_by) == ("shown", "tickets")
    assert replayed(tmp_path, following, following, {**HELLO, "reply": told}) == []


def test_only_what_is_asked_for_counts(tmp_path: Path) -> None:
    assert replayed(tmp_path, REDACTING, None, TICKET, only=("verdict",)) == []
    assert len(replayed(tmp_path, TICKETS, None, TICKET, only=("verdict",))) == 1


def test_the_teams_above_a_caller_count(tmp_path: Path) -> None:
    teams = '[teams.company]\nmodels = ["other"]\n[teams.research]\nparent = "company"\n'
    (change,) = replayed(tmp_path, teams, None, {**HELLO, "groups": ["research"]})
    assert change.after.code == "model_not_allowed"


def test_what_cannot_be_judged_is_counted_by_why_and_what_is_left_out_is_named(
    tmp_path: Path,
) -> None:
    following = '[[plugins]]\nuse = "virtual_keys"\n'
    run = Replay(judge(tmp_path, "next.toml", following), None, ASPECTS)
    assert list(run.changes([Skipped("a", "why"), Skipped("b", "why")])) == []
    assert (run.judged, run.skipped, run.left_out) == (0, {"why": 2}, {"virtual_keys"})
