"""Values of TOML become typed ones; a secret comes from outside the file and is never repeated."""

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from proxy.convert import convert, is_secretive, secret_source, secrets_made_up
from proxy.errors import ConfigError
from proxy.secret import Secret

CANARY = "sk-live-51H8canary0123456789"


class Inner(Struct, frozen=True):
    name: str
    size: int = 1


@dataclass(frozen=True)
class Entry:
    name: str
    key: Secret | None = None


@dataclass(frozen=True)
class Options:
    entries: tuple[Entry, ...]
    table: dict[str, Inner] = field(default_factory=dict)
    ratio: float = 1.0
    token: Secret | None = None
    _cache: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.ratio > 1:
            raise ConfigError("ratio is above one")


class Picky(Struct, frozen=True):
    size: int

    def __post_init__(self) -> None:
        if self.size > 3:
            raise ConfigError("size is above three")


class Tokened(Struct, frozen=True):
    token: Secret


class Renamed(Struct, frozen=True, rename={"sender": "as"}):
    sender: str


def refusal(value: Any, wanted: type = Options) -> str:
    with pytest.raises(ConfigError) as caught:
        convert(value, wanted, where="here")
    return str(caught.value)


def test_nested_tables_become_dataclasses_and_structs() -> None:
    made = convert(
        {"entries": [{"name": "a"}], "table": {"x": {"name": "b", "size": 2}}, "ratio": 1},
        Options,
        where="here",
    )
    assert made.entries == (Entry("a"),)
    assert made.table == {"x": Inner("b", 2)}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"entrys": []}, "unknown key 'entrys' = a list. Did you mean 'entries'?"),
        ({"entries": [{"nmae": "a"}]}, "unknown key 'entries[0].nmae' = 'a'. Did you mean 'name'?"),
        ({"entries": [], "table": {"x": {"sise": 2}}}, "'table.x.sise' = 2. Did you mean 'size'?"),
        ({"entries": [], "_cache": {}}, "unknown key '_cache'"),
        ({}, "here: 'entries' is missing. Known here: entries, table, ratio, token"),
        ({"entries": [{}]}, "entries[0]: Object missing required field name"),
        ({"entries": "x"}, "entries = 'x': Expected array, got str"),
        ({"entries": [], "ratio": "1"}, "ratio = '1': Expected float, got str"),
        ({"entries": [], "table": {"x": {"name": 3}}}, "table.x.name = 3: Expected str, got int"),
        ({"entries": [], "table": {"x": []}}, "table.x = a list: Expected object, got array"),
        ({"entries": [], "ratio": 2.0}, "here: ratio is above one"),
    ],
)
def test_a_mistake_is_told_with_its_path_value_and_nearest_name(value: Any, words: str) -> None:
    assert words in refusal(value)


def test_a_struct_that_refuses_its_values_is_told_with_its_place() -> None:
    assert refusal({"size": 4}, Picky) == "here: size is above three"


def test_a_value_that_is_no_table_at_all_is_told_in_one_sentence() -> None:
    assert refusal(5, Inner) == "here: Expected object, got int"


def test_a_long_value_is_shown_by_its_beginning_only() -> None:
    message = refusal({"entries": "word " * 40})
    assert "entries = 'word word" in message
    assert len(message) < 150


def test_a_type_that_toml_has_no_word_for_is_a_mistake_of_the_plugin() -> None:
    class Odd:
        pass

    @dataclass(frozen=True)
    class Strange:
        odd: Odd

    assert "Outgate cannot read a Odd from TOML" in refusal({"odd": 1}, Strange)


def test_a_secret_is_read_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "from-the-environment")
    path = tmp_path / "token"
    path.write_text("from-the-file\n")

    def token(source: Any) -> str:
        made = convert({"entries": [], "token": source}, Options, where="here")
        assert made.token is not None
        return made.token.reveal()

    assert token({"env": "SOME_TOKEN"}) == "from-the-environment"
    assert token({"file": str(path)}) == "from-the-file"
    assert token(Secret("given-by-a-test")) == "given-by-a-test"


def test_a_secret_that_is_missing_short_or_unreadable_names_its_source_and_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHORT", "abc")
    (tmp_path / "short").write_text("abc")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe")

    def refused(source: Any) -> str:
        return refusal({"entries": [], "token": source})

    assert "the environment variable 'NONE' is not set" in refused({"env": "NONE"})
    assert "export NONE=…" in refused({"env": "NONE"})
    assert "'SHORT' holds fewer than 8 characters" in refused({"env": "SHORT"})
    assert "abc" not in refused({"env": "SHORT"})
    for name, words in (
        ("none", "cannot be read: put the secret there"),
        ("binary", "cannot be read"),
        ("short", "holds fewer than 8 characters"),
        (".", "cannot be read"),
    ):
        assert words in refused({"file": str(tmp_path / name)})
    assert "unknown source 'vault': write { env = " in refused({"vault": "x"})


@pytest.mark.parametrize(
    "value",
    [
        {"entries": [], "token": CANARY},
        {"entries": [], "token": [CANARY]},
        {"entries": [], "token": {"env": [CANARY]}},
        {"entries": [], "token": {"env": "A", "file": CANARY}},
        {"entries": [{"name": "a", "key": CANARY}]},
        {"entries": [{"name": "a", "kee": CANARY}]},
        {"entries": [], "tokn": "hunter22"},
        {"entries": [], "authorization": "Bearer hunter22"},
        {"entries": [], "note": CANARY},
        {"entries": [], "tabel": {"x": {"name": CANARY}}},
        {"entries": {"name": CANARY}},
        {"entries": [], "ratio": CANARY},
        {"entries": [], "table": {"x": CANARY}},
    ],
)
def test_a_secret_in_plain_text_is_refused_and_never_repeated(value: Any) -> None:
    message = refusal(value)
    for secret in (CANARY, CANARY[:12], "hunter22"):
        assert secret not in message


def test_a_plain_secret_is_answered_with_the_two_ways_to_give_it() -> None:
    assert (
        refusal({"entries": [], "token": CANARY})
        == 'here: token: write { env = "NAME" } or { file = "/path" };'
        " a secret never stands in the configuration itself"
    )


def test_where_a_secret_comes_from_can_be_shown() -> None:
    assert secret_source({"env": "NAME"}) == "env NAME"
    assert secret_source({"file": "/run/x"}) == "file /run/x"
    assert secret_source("anything") == "given"


def test_a_field_that_only_the_constructor_sees_is_no_option() -> None:
    @dataclass(frozen=True)
    class Seen:
        name: str
        extra: InitVar[int] = 0

    assert "unknown key 'extra'" in refusal({"name": "a", "extra": 1}, Seen)


@pytest.mark.parametrize("name", ["api_key", "TOKEN", "password", "credential", "x-auth-thing"])
def test_settings_that_may_hold_a_secret_are_known_by_their_names(name: str) -> None:
    assert is_secretive(name)
    assert not is_secretive("models")


def test_a_key_with_a_dot_in_it_is_named_even_where_its_value_cannot_be_found() -> None:
    value = {"entries": [], "table": {"a.b": {"name": "x", "sise": 1}}}
    assert "unknown key 'table.a.b.sise' = ….  Did you" in refusal(value).replace(". Did", ".  Did")


def test_where_nothing_is_sent_a_secret_that_is_absent_is_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"token": {"env": "A_TOKEN_OF_TESTS"}}
    monkeypatch.setenv("A_TOKEN_OF_TESTS", "short")
    with secrets_made_up():
        made = [convert(given, Tokened, where="here").token.reveal() for _ in range(2)]
        assert made[0] != made[1]
        assert min(map(len, made)) >= 32
        monkeypatch.setenv("A_TOKEN_OF_TESTS", "long enough to be one")
        assert convert(given, Tokened, where="here").token.reveal() == "long enough to be one"
    monkeypatch.delenv("A_TOKEN_OF_TESTS")
    assert "is not set" in refusal(given, Tokened)


def test_a_field_is_known_by_the_name_that_is_written() -> None:
    assert convert({"as": "x"}, Renamed, where="here").sender == "x"
    assert "unknown key 'sender'" in refusal({"sender": "x"}, Renamed)
