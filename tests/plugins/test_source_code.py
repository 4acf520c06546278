import re
from pathlib import Path
from typing import Final

import pytest

from proxy import ConfigError
from proxy.testing import harness
from tests.pages import DOCS

SAMPLES: Final = {
    "python": "import os\n\ndef f(x):\n    y = os.path.join(x, 'a')\n    if y:\n        return y\n",
    "java": "package a.b;\n\npublic class Foo {\n  private final int x;\n  int get() { return x; }\n}\n",
    "go": "package main\n\nfunc main() {\n\tx := 3\n\tfor i := 0; i < x; i++ {\n\t\tf(i)\n\t}\n}\n",
    "rust": "use std::io;\n\nfn main() {\n    let mut s = String::new();\n    s.push('a');\n}\n",
    "c": '#include <stdio.h>\nint main(void) {\n  printf("hi\\n");\n  return 0;\n}\n',
    "javascript": 'const a = require("a");\nasync function f(x) {\n  return await x.get("u");\n}\n',
    "sql": "SELECT a, b\nFROM t\nWHERE a = 1\nORDER BY b;\n",
    "shell": '#!/bin/sh\nset -e\nfor f in *.txt; do\n  rm -f "$f"\ndone\n',
}


@pytest.mark.parametrize("language", SAMPLES)
def test_code_is_found_whether_the_question_around_it_is_prose_or_not(language: str) -> None:
    guard = harness("source_code")
    code = SAMPLES[language]
    assert guard.completions(prompt=f"Why does this fail?\n\n{code}\nThank you!").denied
    assert guard.chat(messages=[{"role": "user", "content": code.replace("\n", "\r\n")}]).denied


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_the_prose_of_a_manual_is_not_code(page: Path) -> None:
    prose = re.sub(r"```.*?```|<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    assert harness("source_code").completions(prompt=prose).denied is None


@pytest.mark.parametrize(
    "text",
    [
        "What does x = f(y); mean?",
        "Run `git push --force`?\nThanks, Ann",
        "Dear Ms Weber,\n\nyour order (no. 12) is here;\nwe will call you.\n\nKind regards",
        "- one;\n- two;\n- three;\n- four.",
    ],
)
def test_a_formula_a_command_and_a_letter_pass(text: str) -> None:
    assert harness("source_code").completions(prompt=text).denied is None


def test_more_or_fewer_lines_are_the_operators_to_say() -> None:
    text = "Is this right?\nx = f(y);\nreturn x;"
    assert harness("source_code").completions(prompt=text).denied is None
    assert harness("source_code", lines=2).completions(prompt=text).denied


def test_a_policy_says_how_much_is_too_much() -> None:
    rule = {"action": "deny", "at_least": 8}
    few = harness("source_code").given(config={"policy": {"request": {"source-code": rule}}})
    assert few.completions(prompt=SAMPLES["c"]).denied is None
    assert few.completions(prompt=SAMPLES["c"] + SAMPLES["java"]).denied


@pytest.mark.parametrize("lines", [0, 10])
def test_a_number_of_lines_that_cannot_be_is_refused(lines: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 9"):
        harness("source_code", lines=lines)
