"""A shadow judges what the live chain judged, tells where it differs, and changes nothing."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy import Call, Deny, Store, hookimpl
from proxy.app import create_app
from proxy.config import load, parse
from proxy.errors import ConfigError
from tests.gateway import (
    CHOICE,
    COMPLETION,
    JSON,
    REPLY,
    STREAMED,
    chunk,
    document,
    gateway,
    refused,
)
from tests.rehearsal.material import HEAD, TICKETS, asked, listed, settle, shadowed
from tests.upstream import json_reply, sse

TICKET = {**COMPLETION, "prompt": "See TICKET-4711"}
MAIL = {**COMPLETION, "prompt": "Write to anna@acme-motors.com"}
LOUD = '\n[[plugins]]\nuse = "tests.rehearsal.material:Loud"\n'
gates: list[threading.Event] = []


@dataclass(frozen=True)
class Slow:
    """Judges a call when it is told to."""

    @hookimpl
    def guard_request(self) -> None:
        gates[-1].wait(60)


@dataclass(frozen=True)
class Spent:
    """Grants nothing to the poor."""

    @hookimpl
    def admit(self, call: Call) -> Deny | None:
        poor = call.body.get("user") == "poor"
        return Deny("Spent.", "insufficient_quota", status=429) if poor else None


@dataclass(frozen=True)
class Kept:
    """Decides by what stands in the store."""

    store: Store

    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("Kept.", "kept")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    asked.clear()
    yield
    asked.clear()


def test_a_call_that_tomorrow_would_refuse_is_answered_today_and_listed(tmp_path: Path) -> None:
    with shadowed(tmp_path, TICKETS) as gate:
        assert gate.ask(TICKET).status == 200
        assert gate.ask(COMPLETION).status == 200
        (found,) = listed(gate, tmp_path, 2)
        record = gate.record(2)
        assert gate.pipeline.vitals()["shadow_calls"] == 2
        assert gate.pipeline.vitals()["shadow_disagreements"] == 1
    assert record.denied_by is None
    assert (found.principal, found.model, found.endpoint) == ("alice", "m", "completions")
    assert found.differs == ("verdict",)
    assert found.live.verdict == "allowed"
    assert (found.shadow.verdict, found.shadow.by) == ("denied", "tickets")
    assert found.shadow.code == "content_policy_violation"
    assert found.shadow.findings == {"ticket deny": 1}
    assert "4711" not in (tmp_path / "shadow.jsonl").read_text()
    assert found.policy != found.shadow_policy


def test_a_call_that_is_refused_today_and_not_tomorrow_is_listed(tmp_path: Path) -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "TICKET-[0-9]{4}"}}}
    with shadowed(tmp_path, "", plugins=[guard]) as gate:
        refused(gate.ask(TICKET), 400)
        (found,) = listed(gate, tmp_path)
    assert (found.live.verdict, found.live.by) == ("denied", "regex_guard")
    assert (found.shadow.verdict, found.shadow.by) == ("allowed", None)


def test_two_chains_that_mask_alike_agree_although_every_placeholder_is_new(tmp_path: Path) -> None:
    policy = '[[plugins]]\nuse = "pii"\n[policy]\nrequest = { pii = "mask" }\n'
    with shadowed(
        tmp_path, policy, plugins=[{"use": "pii"}], policy={"request": {"pii": "mask"}}
    ) as gate:
        assert gate.ask(MAIL).status == 200
        assert listed(gate, tmp_path) == []


def test_masked_and_let_through_are_a_difference_of_findings(tmp_path: Path) -> None:
    policy = '[[plugins]]\nuse = "pii"\n[policy]\nrequest = { pii = "mask" }\n'
    with shadowed(
        tmp_path, policy, plugins=[{"use": "pii"}], policy={"request": {"pii": "monitor"}}
    ) as gate:
        assert gate.ask(MAIL).status == 200
        (found,) = listed(gate, tmp_path)
    assert found.differs == ("findings",)
    assert (found.live.findings, found.shadow.findings) == ({"email monitor": 1}, {"email mask": 1})


def test_a_body_that_would_be_another_is_a_difference_of_the_body(tmp_path: Path) -> None:
    following = '[[plugins]]\nuse = "prompt_template"\noptions = { prefix = "Be brief. " }\n'
    with shadowed(tmp_path, following) as gate:
        gate.ask(COMPLETION)
        (found,) = listed(gate, tmp_path)
        assert gate.upstream.requests[0].json() == COMPLETION
    assert found.differs == ("body",)


def test_a_whole_reply_is_judged_too_and_shown_as_it_is(tmp_path: Path) -> None:
    marked = {**REPLY, "choices": [{**CHOICE, "text": "mark TICKET-4711"}]}
    following = TICKETS + LOUD + '[policy]\nresponse = { ticket = "deny" }\n'
    with shadowed(
        tmp_path, following, json_reply(marked), json_reply({**REPLY, "id": "mark"})
    ) as gate:
        assert gate.ask(COMPLETION).json() == marked
        assert gate.ask(COMPLETION).json() == {**REPLY, "id": "mark"}
        withheld, changed = listed(gate, tmp_path, 2)
    assert withheld.differs == ("reply",)
    assert (withheld.live.reply, withheld.shadow.reply) == ("shown", "denied")
    assert withheld.shadow.reply_by == "tickets"
    assert (changed.live.reply, changed.shadow.reply) == ("shown", "shown")


def test_what_was_masked_is_put_back_for_both_and_agrees(tmp_path: Path) -> None:
    policy = '[[plugins]]\nuse = "pii"\n[policy]\nrequest = { pii = "mask" }\nresponse = { pii = "deny" }\n'

    with shadowed(
        tmp_path, policy, plugins=[{"use": "pii"}],
        policy={"request": {"pii": "mask"}, "response": {"pii": "deny"}},
    ) as gate:  # fmt: skip
        assert gate.ask(MAIL).status == 200
        assert listed(gate, tmp_path) == []


def test_a_stream_is_judged_by_its_request_alone(tmp_path: Path) -> None:
    following = TICKETS + '[policy]\nresponse = { ticket = "deny" }\n'
    script = sse([chunk("TICKET-4711", "stop")])
    with shadowed(tmp_path, following, script) as gate:
        assert b"TICKET-4711" in gate.ask(STREAMED).body
        assert listed(gate, tmp_path) == []
        assert gate.pipeline.vitals()["shadow_calls"] == 1


def test_nothing_but_judgement_is_run_of_a_shadow(tmp_path: Path) -> None:
    with shadowed(tmp_path, LOUD) as gate:
        gate.ask(COMPLETION)
        listed(gate, tmp_path)
    assert asked == ["guard_request", "rewrite_response"]


def test_a_shadow_that_fails_is_a_refusal_of_the_shadow_alone(tmp_path: Path) -> None:
    with shadowed(tmp_path, LOUD + "options = { breaks = true }\n") as gate:
        assert gate.ask(COMPLETION).status == 200
        (found,) = listed(gate, tmp_path)
        assert gate.pipeline.obstacles() == []
    assert (found.shadow.by, found.shadow.code) == (
        "tests.rehearsal.material:Loud",
        "plugin_failed",
    )


def test_a_shadow_that_hangs_delays_nobody_and_what_finds_no_room_is_counted(
    tmp_path: Path,
) -> None:
    gates.append(threading.Event())
    following = '[[plugins]]\nuse = "tests.rehearsal.test_shadow:Slow"\n'
    with shadowed(tmp_path, following, table={"waiting": 2}) as gate:
        for _ in range(8):
            assert gate.ask(COMPLETION).status == 200
        gate.record(8)
        deadline = time.monotonic() + 60
        # One hangs, two wait.
        while gate.pipeline.vitals()["shadow_dropped"] < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gate.pipeline.vitals()["hung_hooks"] == 0
        gates[-1].set()
        listed(gate, tmp_path, 8)
        vitals = gate.pipeline.vitals()
    assert vitals["shadow_calls"] + vitals["shadow_dropped"] == 8
    assert vitals["shadow_dropped"] in (5, 6)


def test_a_report_that_cannot_be_written_is_counted_and_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    table = {"report": str(tmp_path / "reports" / "shadow.jsonl")}
    with shadowed(tmp_path, TICKETS, table=table) as gate:
        (tmp_path / "reports" / "shadow.jsonl").unlink()
        (tmp_path / "reports").rmdir()
        assert gate.ask(TICKET).status == 200
        settle(gate, 1)
        assert gate.pipeline.vitals()["shadow_errors"] == 1


def test_a_full_report_takes_no_more_and_the_count_goes_on(tmp_path: Path) -> None:
    with shadowed(tmp_path, TICKETS, table={"report_bytes": 4096}) as gate:
        for _ in range(20):
            gate.ask(TICKET)
        found = listed(gate, tmp_path, 20)
        assert gate.pipeline.vitals()["shadow_disagreements"] == 20
    assert 0 < len(found) < 20
    assert (tmp_path / "shadow.jsonl").stat().st_size <= 4096


def test_a_share_of_the_calls_can_be_judged(tmp_path: Path) -> None:
    with shadowed(tmp_path, TICKETS, table={"share": 1e-9}) as gate:
        gate.ask(TICKET)
        gate.record()
        assert listed(gate, tmp_path, 0) == []


def test_without_a_shadow_there_are_no_figures_of_one() -> None:
    with gateway() as gate:
        gate.ask(COMPLETION)
        assert not any(name.startswith("shadow") for name in gate.pipeline.vitals())


def test_what_only_the_live_chain_decides_is_compared_by_what_came_before(tmp_path: Path) -> None:
    spent = {"use": "tests.rehearsal.test_shadow:Spent"}
    with shadowed(tmp_path, "", plugins=[spent]) as gate:
        refused(gate.ask({**COMPLETION, "user": "poor"}), 429, "insufficient_quota")
        # Its usage is asked for, because somebody accounts for it; no shadow asks.
        stream = gate.ask({**STREAMED, "stream_options": {"include_obfuscation": False}})
        assert stream.status == 200
        assert gate.upstream.requests[0].json()["stream_options"]["include_usage"] is True
        assert listed(gate, tmp_path, 2) == []


def test_a_call_that_the_store_refuses_is_not_compared(tmp_path: Path) -> None:
    kept = {"use": "tests.rehearsal.test_shadow:Kept"}
    store = {"url": f"sqlite:///{tmp_path}/outgate.db"}
    following = '[[plugins]]\nuse = "tests.rehearsal.test_shadow:Kept"\n'
    with shadowed(tmp_path, following, plugins=[kept], store=store) as gate:
        refused(gate.ask(COMPLETION), 400, "kept")
        gate.record()
        assert listed(gate, tmp_path, 0) == []
        assert gate.pipeline.vitals()["shadow_calls"] == 0


def test_what_cannot_be_read_and_who_is_not_known_is_no_call_to_judge(tmp_path: Path) -> None:
    with shadowed(tmp_path, TICKETS) as gate:
        assert (
            gate.ask(
                b"{",
            ).status
            == 400
        )
        assert gate.ask(COMPLETION, [JSON]).status == 401
        gate.record(2)
        assert listed(gate, tmp_path, 0) == []
        assert gate.pipeline.vitals()["shadow_calls"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limitz]\n", "unknown key 'limitz'"),
        ('[[plugins]]\nuse = "regex_gard"\n', "Did you mean 'regex_guard'?"),
        ('[policy.request]\ntiket = "deny"\n', "tiket"),
        ("= 5", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_other_file_stops_the_start_and_names_it(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "next.toml"
    path.write_text(HEAD + text)
    shadow = {"config": str(path), "report": str(tmp_path / "shadow.jsonl")}
    with pytest.raises(ConfigError, match=r"next\.toml") as caught:
        create_app(parse(document("http://127.0.0.1:9", "nobody", shadow=shadow)))
    assert told in str(caught.value)


def test_the_other_file_is_looked_for_beside_the_one_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    report = f'report = "{tmp_path}/shadow.jsonl"\n'
    path.write_text(f'{HEAD}[shadow]\nconfig = "next.toml"\n{report}')
    with pytest.raises(ConfigError, match=r"shadow\.config: .*next\.toml: No such file"):
        create_app(load(path))
    # Today's file, copied, with its own [shadow] in it.
    (tmp_path / "next.toml").write_text(path.read_text())
    assert create_app(load(path)).extensions["outgate"].shadow is not None
