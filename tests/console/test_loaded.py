"""What is shown of the chain and the policy is what is loaded, and holds no secret."""

import json
from typing import Any

from proxy.app import assemble
from proxy.config import parse
from proxy.console import loaded
from proxy.parts import Parts
from proxy.steps import Chain
from tests.gateway import KEY, UPSTREAM_KEY, document

GUARD = {
    "use": "regex_guard",
    "name": "staff",
    "mode": "monitor",
    "when": {"endpoints": ["chat"], "groups": ["eng"]},
    "options": {"patterns": {"employee-id": "E-[0-9]{6}"}},
}


def parts(**sections: Any) -> Parts:
    return assemble(parse(document("http://127.0.0.1:1", "box", plugins=[GUARD], **sections)))[1]


def test_plugins_stand_in_the_order_of_the_file() -> None:
    rows = loaded.plugins(parts())
    assert [row.name for row in rows] == ["static_keys", "openai_compatible", "staff", "recorder"]
    staff = rows[2]
    assert (staff.use, staff.mode, staff.detectors) == ("regex_guard", "monitor", 1)
    assert staff.hooks == ("detectors",)
    assert staff.scope == "groups eng; endpoints chat"
    assert rows[0].scope == "every call"


def test_every_hook_is_shown_with_those_it_runs_in_order() -> None:
    rows = loaded.hooks(parts())
    assert {row.hook for row in rows} == {*Chain.__struct_fields__, "detectors"}
    assert all(row.what for row in rows)
    by = {row.hook: row.plugins for row in rows}
    assert by["identify"] == (("static_keys", False),)
    assert by["detectors"] == (("staff", True),)
    assert by["log_exchange"] == (("recorder", False),)


def test_rules_stand_as_written_with_what_happens_to_all_else() -> None:
    narrow = {"when": {"groups": ["eng"]}, "request": {"employee-id": "allow"}}
    policy = {"request": {"*": "mask", "employee-id": "redact"}, "rules": [narrow]}
    rows = [(t.side, t.scope, t.rows) for t in loaded.rules(parts(policy=policy))]
    assert rows == [
        ("Requests", "groups eng", [("employee-id", "allow")]),
        ("Requests", "every call", [("employee-id", "redact"), ("*", "mask")]),
        ("Replies", "every call", [("*", "allow")]),
    ]


def test_a_detector_in_monitor_mode_does_no_more_than_that() -> None:
    (row,) = loaded.detectors(parts())
    assert (row.kind, row.plugin, row.request, row.response) == (
        "employee-id", "staff", "monitor", "allow",
    )  # fmt: skip
    (unsure,) = loaded.detectors(parts(policy={"confidence": 1.0}))
    assert unsure.request in ("monitor", "allow")


def test_no_secret_is_in_any_of_it() -> None:
    found = parts()
    rows = [loaded.plugins(found), loaded.hooks(found), loaded.detectors(found)]
    text = json.dumps([*rows, loaded.rules(found), loaded.settings(found)], default=str)
    assert KEY not in text
    assert UPSTREAM_KEY not in text
