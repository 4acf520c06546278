"""A judge says what would become of a call, and asks nobody but those who judge."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import Principal
from proxy.config import parse, read
from proxy.jsonio import encode
from proxy.mask import Vault
from proxy.model import Call, Endpoint
from proxy.rehearsal.judging import Judge, counted, fingerprint
from proxy.rehearsal.loading import candidate, rehearsed
from proxy.rehearsal.samples import made
from tests.gateway import CHOICE, REPLY
from tests.rehearsal.material import HEAD, TICKETS, asked

LOUD = '\n[[plugins]]\nuse = "tests.rehearsal.material:Loud"\n'
PII = '\n[[plugins]]\nuse = "pii"\n[policy]\nrequest = { pii = "mask" }\nresponse = { pii = "redact" }\n'


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    asked.clear()
    yield
    asked.clear()


def judge(folder: Path, text: str) -> Judge:
    path = folder / "next.toml"
    path.write_text(HEAD + text)
    return Judge(rehearsed(path))


def call(prompt: str = "Hello", *, groups: tuple[str, ...] = (), **body: Any) -> Call:
    whole = {"model": "m", "prompt": prompt, **body}
    return made("completions", whole, Principal("alice", groups))


def test_an_allowed_call_is_told_with_the_body_that_would_leave(tmp_path: Path) -> None:
    text = '[[plugins]]\nuse = "prompt_template"\noptions = { prefix = "Be brief. " }\n'
    found = judge(tmp_path, text).request(call())
    assert found.refusal is None
    assert found.sent == {"model": "m", "prompt": "Be brief. Hello"}


def test_a_refusal_is_told_with_who_refuses_and_how(tmp_path: Path) -> None:
    found = judge(tmp_path, TICKETS).request(call("TICKET-4711"))
    assert found.refusal is not None
    assert (found.refusal.by, found.refusal.status, found.refusal.param) == (
        "tickets",
        400,
        "prompt",
    )
    assert found.sent is None
    assert counted(found.findings) == {"ticket deny": 1}


def test_what_the_gateway_itself_refuses_is_refused_by_nobody_else(tmp_path: Path) -> None:
    found = judge(tmp_path, "").request(call(temperature="hot"))
    assert found.refusal is not None
    assert (found.refusal.by, found.refusal.param) == (None, "temperature")
    text = '[teams.research]\nmodels = ["other"]\n'
    found = judge(tmp_path, text).request(call(groups=("research",)))
    assert found.refusal is not None
    assert found.refusal.code == "model_not_allowed"


def test_nobody_is_asked_who_reserves_chooses_or_records(tmp_path: Path) -> None:
    loud = judge(tmp_path, LOUD)
    loud.reply(loud.request(call()), 200, encode(REPLY))
    assert asked == ["guard_request", "rewrite_response"]


def test_a_call_whose_time_is_over_is_judged_all_the_same(tmp_path: Path) -> None:
    old = call().replace(deadline=0.0)
    found = judge(tmp_path, "").request(old)
    assert found.call is not None
    assert found.call.seconds_left() > 100


def test_a_reply_is_judged_with_the_masks_of_its_call(tmp_path: Path) -> None:
    masking = judge(tmp_path, PII)
    found = masking.request(call("Write to anna@acme-motors.com"))
    mask = found.sent["prompt"].removeprefix("Write to ")
    assert mask.startswith("<EMAIL_1_")
    reply = {**REPLY, "choices": [{**CHOICE, "text": f"{mask} and bob@acme-motors.com"}]}
    answered = masking.reply(found, 200, encode(reply), found.vault)
    assert answered.shown["choices"][0]["text"] == "anna@acme-motors.com and [EMAIL]"
    assert counted(answered.reply_findings) == {"email redact": 1}
    assert counted(answered.findings) == {"email mask": 1}


def test_a_reply_that_is_withheld_says_by_whom(tmp_path: Path) -> None:
    strict = judge(tmp_path, TICKETS + '[policy.response]\nticket = "deny"\n')
    reply = {**REPLY, "choices": [{**CHOICE, "text": "TICKET-4711"}]}
    found = strict.reply(strict.request(call()), 200, encode(reply))
    assert found.reply_refusal is not None
    assert found.reply_refusal.by == "tickets"
    assert found.shown is None
    broken = strict.reply(strict.request(call()), 200, b"no JSON")
    assert broken.reply_refusal is not None
    assert broken.reply_refusal.code == "upstream_error"


def test_nothing_answers_a_call_that_was_refused(tmp_path: Path) -> None:
    strict = judge(tmp_path, TICKETS)
    found = strict.request(call("TICKET-4711"))
    assert strict.reply(found, 200, encode(REPLY)) is found


@pytest.mark.parametrize(("endpoint", "model"), [("models", None), ("model", "m")])
def test_calls_without_a_body_are_judged_too(
    tmp_path: Path, endpoint: Endpoint, model: str | None
) -> None:
    text = '[[plugins]]\nuse = "models"\noptions = { default = ["other"] }\n'
    found = judge(tmp_path, text).request(made(endpoint, {}, Principal("alice"), model=model))
    assert (found.refusal is not None) == (endpoint == "model")


def test_the_teams_above_those_of_a_caller_count(tmp_path: Path) -> None:
    text = '[teams.company]\nmodels = ["other"]\n[teams.research]\nparent = "company"\n'
    own = judge(tmp_path, text)
    known = own.principal(Principal("rosa", ("research",)))
    assert known.groups == ("research", "company")
    assert own.request(call().replace(principal=known)).refusal is not None


def test_plugins_have_the_names_that_the_file_has_for_them(tmp_path: Path) -> None:
    path = tmp_path / "next.toml"
    path.write_text(HEAD + TICKETS + LOUD)
    shadow = Judge(candidate(parse(read(path), str(path)), prefix="shadow "))
    found = shadow.request(call("TICKET-4711"))
    assert found.refusal is not None
    assert found.refusal.by == "tickets"
    assert [verdict.plugin for verdict in found.verdicts] == ["tests.rehearsal.material:Loud"]


def test_a_body_has_the_fingerprint_of_what_was_masked_in_it() -> None:
    one, other = Vault(), Vault()
    bodies = [{"prompt": vault.mask("email", "a@b.example")} for vault in (one, other)]
    assert bodies[0] != bodies[1]
    plain = fingerprint({"prompt": "a@b.example"}, None)
    assert fingerprint(bodies[0], one) == fingerprint(bodies[1], other) == plain
    assert fingerprint(bodies[0], None) != plain
