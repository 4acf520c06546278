"""Of a configuration that part is loaded which judges; no secret and no store is needed for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy import Call, Deny, Store, hookimpl
from proxy.config import load
from proxy.errors import ConfigError
from proxy.rehearsal.loading import candidate, rehearsed
from proxy.steps import Chain
from tests.rehearsal.material import HEAD, TICKETS

LOUD = '\n[[plugins]]\nuse = "tests.rehearsal.material:Loud"\n'
_CREDENTIAL = 'credential = { env = "NOT_HERE" }'
WHOLE = f"""{HEAD.replace("provider =", f"{_CREDENTIAL}{chr(10)}provider =")}
[[plugins]]
use = "static_keys"
options = {{ keys = [{{ name = "alice", key = {{ env = "NOT_HERE_EITHER" }} }}] }}

[[plugins]]
use = "virtual_keys"

[[plugins]]
use = "log_jsonl"
options = {{ path = "/nonexistent/log.jsonl" }}

[store]
url = {{ env = "NO_STORE" }}

[audit]
directory = "/nonexistent"

[policy.conversation]
header = "x-conversation-id"
key = {{ env = "NO_KEY" }}
{TICKETS}
"""


@dataclass(frozen=True)
class Counting:
    """A guardrail with state in the store."""

    store: Store

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        raise AssertionError(call)


def written(folder: Path, text: str) -> Path:
    path = folder / "next.toml"
    path.write_text(text)
    return path


def test_no_secret_of_a_file_has_to_be_there_and_nothing_of_it_is_opened(tmp_path: Path) -> None:
    found = rehearsed(written(tmp_path, WHOLE))
    assert found.parts.store is None
    assert [watch.plugin for watch in found.parts.policy.watches] == ["tickets"]


def test_to_serve_the_same_file_every_secret_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NOT_HERE"):
        load(written(tmp_path, WHOLE))


def test_plugins_that_keep_state_in_the_store_are_left_out_and_named(tmp_path: Path) -> None:
    own = '\n[[plugins]]\nuse = "tests.rehearsal.test_loading:Counting"\nname = "counting"\n'
    found = rehearsed(written(tmp_path, WHOLE + own))
    assert found.left_out == {"virtual_keys", "counting"}
    assert found.parts.chain.guard_request == ()


def test_only_the_hooks_that_judge_are_in_the_chain(tmp_path: Path) -> None:
    chain = rehearsed(written(tmp_path, HEAD + LOUD)).parts.chain
    filled = {hook for hook in Chain.__struct_fields__ if getattr(chain, hook)}
    assert filled == {"guard_request", "rewrite_response"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[plugins]]\nuse = "regex_gard"\n', "Did you mean 'regex_guard'?"),
        ('[[plugins]]\nuse = "regex_guard"\n', "patterns"),
        ('[[plugins]]\nuse = "tests.rehearsal.material:HEAD"\n', "neither a module nor a class"),
        (TICKETS + '[policy.request]\ntikcet = "deny"\n', "tikcet"),
        ('[teams.a]\nparent = "b"\n', "no team 'b'"),
    ],
)
def test_a_mistake_is_told_with_the_name_of_the_file(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, HEAD + text)
    for load_it in (rehearsed, lambda path: candidate(load(path), prefix="shadow ")):
        with pytest.raises(ConfigError) as caught:
            load_it(path)
        assert told in str(caught.value)
        assert str(path) in str(caught.value)
