"""Files of policy tests: what is written, what is made of it, and what is said to a mistake."""

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.rehearsal.cases import Case, cases_of, chosen

EXPECT = 'expect = { verdict = "allowed" }\n'
WHOLE = f"""
# A comment.

[[case]]
name = "a chat"
text = "Hello"
as = {{ principal = "rosa", groups = ["research"], metadata = {{ team = "r" }} }}
headers = {{ X-Conversation-Id = "c" }}
model = "gpt-4o"
{EXPECT}
[[case]]
name = "a completion"
body = {{ prompt = ["a", "b"], max_tokens = 5, model = "own" }}
{EXPECT}
[[case]]
name = "an embedding"
endpoint = "embeddings"
text = "Hello"
{EXPECT}
[[case]]
name = "a model"
endpoint = "model"
model = "own"
{EXPECT}"""


def read(folder: Path, text: str) -> list[Case]:
    path = folder / "cases.toml"
    path.write_text(text)
    return list(cases_of([path]))


def test_a_case_becomes_a_call(tmp_path: Path) -> None:
    chat, completion, embedding, model = read(tmp_path, WHOLE)
    assert chat.where == f"{tmp_path}/cases.toml:4"
    assert chat.call.body == {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    assert (chat.call.principal.name, chat.call.principal.metadata) == ("rosa", {"team": "r"})
    assert chat.call.headers == {"x-conversation-id": "c"}
    assert completion.call.endpoint == "completions"
    assert completion.call.body == {"model": "own", "prompt": ["a", "b"], "max_tokens": 5}
    assert completion.call.principal.name == "tester"
    assert embedding.call.body == {"model": "test-model", "input": "Hello"}
    assert (model.call.endpoint, model.call.model, model.call.body) == ("model", "own", {})


def test_folders_are_read_to_the_bottom_in_order(tmp_path: Path) -> None:
    for name in ("b.toml", "a/c.toml"):
        path = tmp_path / "cases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[[case]]\nname = "{name}"\ntext = "x"\n{EXPECT}')
    (tmp_path / "cases" / "notes.txt").write_text("no cases")
    assert [case.written.name for case in cases_of([tmp_path / "cases"])] == ["a/c.toml", "b.toml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no \*\.toml in it"):
        list(cases_of([tmp_path / "empty"]))


def test_cases_are_chosen_by_name_and_file(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert chosen(found, []) == found
    assert [case.written.name for case in chosen(found, ["CHAT", "embedd"])] == [
        "a chat",
        "an embedding",
    ]
    assert chosen(found, ["cases.toml"]) == found
    assert chosen(found, ["nothing"]) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("= 5", "not valid TOML: Invalid statement (at line 1"),
        ("", "there is no case in it: write [[case]]"),
        ("case = 5", "there is no case in it"),
        ("[[cases]]\n", "unknown key 'cases'. Did you mean 'case'? Write [[case]]"),
        (f"\n\n[[case]]\ntext = 'x'\n{EXPECT}", ":3: case: 'name' is missing."),
        ("[[case]]\nname = 'x'\nexpcet = {}\n", ":1: case 'x': 'expect' is missing. Is 'expcet' meant to be it?"),
        (f"[[case]]\nname = 'x'\ntxet = 'x'\n{EXPECT}", "unknown key 'txet' = 'x'. Did you mean 'text'?"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = { verdit = 'denied' }\n", "= 'denied'. Did you mean 'verdict'?"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = { verdict = 'refused' }\n", "write one of 'allowed', 'denied'"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = {}\n", "expect is empty"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = { verdict = 'allowed', by = 'x' }\n", "expect.by is of a refusal"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = { reply = 'shown' }\n", "nothing answers: add reply"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nexpect = { sent = { matches = ['(?=a)'] } }\n", "it looks ahead"),
        ("[[case]]\nname = 'x'\ntext = 'x'\nas = { group = ['a'] }\n" + EXPECT, "a list. Did you mean 'groups'?"),
        (f"[[case]]\nname = 'x'\n{EXPECT}", "nothing is said: write text"),
        (f"[[case]]\nname = 'x'\nendpoint = 'models'\ntext = 'x'\n{EXPECT}", "takes no text and no body"),
        (f"[[case]]\nname = 'x'\ntext = 'x'\n{EXPECT}" * 2, ":5: case 'x': the name is taken"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_and_nearest_key(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
    assert f"{tmp_path}/cases.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        list(cases_of([tmp_path / "nothing.toml"]))
