"""What is expected of a call is what is found, or the difference is told."""

from pathlib import Path

import pytest

from proxy.rehearsal.cases import cases_of
from proxy.rehearsal.expecting import Mismatch, run
from proxy.rehearsal.judging import Judge
from proxy.rehearsal.loading import rehearsed
from tests.rehearsal.material import HEAD, TICKETS

POLICY = (
    HEAD
    + TICKETS
    + """
[[plugins]]
use = "models"
[plugins.options]
default = ["test-model"]

[[plugins]]
use = "pii"

[policy.request]
pii = "mask"
card = "deny"

[policy.response]
ticket = "deny"

[[policy.rules]]
when = { groups = ["support"] }
request = { ticket = "redact" }
"""
)
MAIL = 'text = "Write to anna@acme-motors.com"\n'
TICKET = 'text = "See TICKET-4711"\n'
SUPPORT = 'as = { groups = ["support"] }\n'


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    path = tmp_path_factory.mktemp("policy") / "outgate.toml"
    path.write_text(POLICY)
    return Judge(rehearsed(path))


def mismatches(judge: Judge, folder: Path, case: str, expect: str) -> tuple[Mismatch, ...]:
    path = folder / "cases.toml"
    path.write_text(f'[[case]]\nname = "x"\n{case}expect = {{ {expect} }}\n')
    (found,) = cases_of([path])
    return run(judge, found).mismatches


@pytest.mark.parametrize(
    ("case", "expect"),
    [
        (MAIL, 'verdict = "allowed"'),
        (MAIL, 'findings = ["email"]'),
        (MAIL, 'findings = { email = "mask" }'),
        (MAIL, 'sent = { lacks = ["anna"], contains = ["Write to <EMAIL"], matches = ["<EMAIL_1_[a-z2-7]{6}>"] }'),
        (MAIL, 'sent = { body = { model = "test-model" } }'),
        (MAIL + "echo = true\n", 'shown = { contains = ["anna@acme-motors.com"] }'),
        ('endpoint = "completions"\n' + MAIL + "echo = true\n", 'reply = "shown", shown = { contains = ["anna@"] }'),
        (TICKET, 'verdict = "denied"'),
        (TICKET, 'by = "tickets", code = "content_policy_violation", param = "messages[0].content", status = 400'),
        (TICKET + SUPPORT, 'verdict = "allowed", sent = { contains = ["See [TICKET]"] }'),
        (MAIL + 'reply = "TICKET-4711"\n', 'reply = "denied", by = "tickets"'),
        (MAIL + "reply = { choices = [] }\n", "shown = { body = { choices = [] } }"),
        (MAIL + 'model = "other"\n', 'by = "models", code = "model_not_allowed"'),
        (MAIL + "body = { temperature = 'hot' }\n", 'by = "gateway", param = "temperature"'),
        ('text = "Hello"\n', "findings = []"),
        ('endpoint = "models"\n', 'verdict = "allowed"'),
    ],
)  # fmt: skip
def test_a_case_passes(judge: Judge, tmp_path: Path, case: str, expect: str) -> None:
    assert mismatches(judge, tmp_path, case, expect) == ()


@pytest.mark.parametrize(
    ("case", "expect", "told"),
    [
        (TICKET, 'verdict = "allowed"', ("verdict", "allowed", "denied by tickets (content_policy_violation): ")),
        (MAIL, 'verdict = "denied"', ("verdict", "denied", "allowed")),
        (MAIL, 'by = "pii"', ("verdict", "denied", "allowed")),
        (TICKET, 'by = "pii"', ("by", "pii", "tickets")),
        (TICKET, "status = 403", ("status", "403", "400")),
        (MAIL + 'model = "other"\n', 'param = "x"', ("param", "x", "model")),
        (MAIL, 'findings = ["card"]', ("findings", "card", "email")),
        (MAIL, "findings = []", ("findings", "none", "email")),
        (MAIL, 'findings = { email = "deny" }', ("findings", "email deny", "email mask")),
        (MAIL, 'sent = { contains = ["anna"] }', ("sent.contains", "anna", "test-model\nuser\nWrite to <EMAIL")),
        (MAIL, 'sent = { lacks = ["Write"] }', ("sent.lacks", "not: Write", "test-model\nuser\nWrite")),
        (MAIL, 'sent = { matches = ["^x$"] }', ("sent.matches", "^x$", "test-model")),
        (MAIL, "sent = { body = { n = 2 } }", ("sent.body.n", "2", "null")),
        (TICKET, 'sent = { contains = ["x"] }', ("sent", "a body", "nothing left")),
        (MAIL + 'reply = "TICKET-4711"\n', 'reply = "shown"', ("reply", "shown", "denied: denied by tickets")),
        (MAIL + 'reply = "TICKET-4711"\n', 'shown = { lacks = ["x"] }', ("shown", "a body", "nothing was shown")),
        (MAIL + 'reply = "fine"\n', 'reply = "denied", by = "tickets"', ("by", "tickets", "-")),
        (TICKET + 'reply = "fine"\n', 'reply = "shown"', ("reply", "shown", "no reply")),
    ],
)  # fmt: skip
def test_a_difference_is_told_with_what_was_expected_and_what_was_found(
    judge: Judge, tmp_path: Path, case: str, expect: str, told: tuple[str, str, str]
) -> None:
    what, expected, found = told
    first = mismatches(judge, tmp_path, case, expect)[0]
    assert (first.what, first.expected) == (what, expected)
    assert first.found.startswith(found)
