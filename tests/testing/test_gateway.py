"""The running proxy for tests, with every kind of script behind it."""

from hashlib import sha256
from pathlib import Path

import pytest

from proxy import ConfigError
from proxy.testing.gateway import proxy
from proxy.testing.replies import asked
from proxy.testing.upstream import scripted

TICKETS = {
    "plugins": [{"use": "regex_guard", "options": {"patterns": {"ticket": "TICKET-[0-9]{4,8}"}}}]
}
FILE = """
[upstreams.main]
provider = "openai_compatible"
base_url = "https://llm.example.com/v1"
credential = { env = "A_VARIABLE_THAT_IS_NOT_SET" }
[[routes]]
upstreams = ["main"]
[[plugins]]
use = "openai_compatible"
[[plugins]]
use = "static_keys"
[plugins.options]
keys = [{ name = "alice", sha256 = "DIGEST" }]
[access]
"""


def test_without_a_script_the_upstream_says_back_what_it_is_asked() -> None:
    with scripted() as upstream, proxy({}, upstream) as gate:
        assert gate.completions(prompt="one two").shown == "one two"
        assert gate.completions(prompt=["a", "b"], stream=True).shown == "a b"
        parts = [{"type": "text", "text": "in parts"}]
        assert gate.chat(messages=[{"role": "user", "content": parts}]).shown == "in parts"
        assert gate.call("embeddings").body["data"][0]["embedding"] == [0.25, -0.5]
        assert gate.call("models").body["data"][0]["id"] == "test-model"
    assert [request.path for request in upstream.requests] == [
        "/v1/completions", "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models",
    ]  # fmt: skip
    assert upstream.requests[-1].body is None


def test_scripts_are_played_call_after_call_and_the_last_again() -> None:
    with scripted() as upstream, proxy({}, upstream) as gate:
        upstream.says("first")
        upstream.says("second", pieces=2)
        assert [gate.completions().shown for _ in range(3)] == ["first", "second", "second"]
        assert len(gate.completions(stream=True).events) == 4
        upstream.answers({"error": {"message": "slow down"}}, status=429)
        refused = gate.chat()
        assert (refused.status, refused.shown) == (429, "")
        assert refused.record.outcome == "upstream_error"
        upstream.streams({"choices": [{"index": 0, "text": "own", "finish_reason": "stop"}]})
        assert gate.completions(stream=True).shown == "own"
    assert [record.status for record in gate.records][-2:] == [429, 200]


def test_a_refused_call_reaches_no_upstream() -> None:
    with scripted() as upstream, proxy(TICKETS, upstream) as gate:
        refused = gate.completions(prompt="TICKET-1234")
        assert refused.status == 400
        assert refused.record.denied_by == "regex_guard"
        assert refused.record.principal == "tester"
        assert upstream.requests == []


def test_a_configuration_file_is_taken_with_its_upstreams_led_here(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(FILE.replace("DIGEST", sha256(b"key-of-alice-0123").hexdigest()))
    with scripted() as upstream, proxy(path, upstream) as gate:
        assert gate.completions().status == 401
        answer = gate.completions(headers={"Authorization": "Bearer key-of-alice-0123"})
        assert (answer.status, answer.record.principal) == (200, "alice")
        assert "authorization" not in upstream.requests[0].headers


def test_a_configuration_that_would_not_start_does_not_start_here() -> None:
    with (
        scripted() as upstream,
        pytest.raises(ConfigError, match="regex_gaurd"),
        proxy({"plugins": [{"use": "regex_gaurd"}]}, upstream),
    ):
        raise AssertionError


def test_what_is_asked_is_found_in_every_form() -> None:
    assert asked({"prompt": [1, 2]}) == ""
    assert asked({"messages": [{"role": "assistant", "content": None}]}) == ""
