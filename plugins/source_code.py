"""Finds program text, so that a company's source code does not leave with a question about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy import ConfigError, Detector, hookimpl, linear

_LONGEST: Final = (
    240  # characters; prose comes in longer lines, and minified code is left to its neighbours
)
_AROUND: Final = 4  # lines before and after one that count as its neighbourhood
_WINDOW: Final = (_LONGEST + 1) * (_AROUND + 1)
#: One line of code of most languages, by how it begins, is built or ends.
_SHAPES: Final = (
    r"(?:from [\w.]+ )?import [\w.{}*, '\"]+;?",
    r"#\s?(?:include|define|ifdef|ifndef|endif|pragma)\b.*",
    r"(?:async )?def \w+\(.*",
    r"(?:export |public |abstract |final |data )*(?:class|interface|struct|enum|trait|impl|module) [\w<>:, ]+[:({]?",
    r"(?:export |default |async )*function\*? ?\w*\(.*",
    r"(?:pub |async )*(?:func|fn|fun|sub|proc) .*[({].*",
    r"(?:const|let|var|val|auto|local|my|final) [\w$@{}\[\], :<>]+ ?:?= ?.*",
    r"(?:public|private|protected|internal|static|override|virtual)\b.*[({;=].*",
    r"(?:\} ?)?(?:if|elif|else if|for|foreach|while|switch|catch|with|match|except|unless)\b ?[(\w!*].*[{:]",
    r"(?:\} ?)?(?:else|try|finally|do|begin|loop) ?[{:]?",
    r"(?:return|raise|throw|yield|await|assert|echo|print|puts|panic!?)\b ?[\w(\"'\[{$&*!-].*[;)\]}]",
    r"SELECT\b.*|select\b.*\bfrom\b.*",
    r"(?:INSERT INTO|CREATE (?:TABLE|INDEX|VIEW|FUNCTION)|ALTER TABLE|DELETE FROM|DROP TABLE|UPDATE \w+ SET)\b.*",
    r"[\w.$@\[\]'\">*&:-]+ ?(?:[-+*/|&%^]|<<|>>|:)?= ?[^=].*[;)\]}'\",\w]",
    r"[\w.$:>!-]+\(.*\)[;:,{]?",
    r"(?:FROM|WHERE|(?:ORDER|GROUP) BY|(?:LEFT |INNER )?JOIN|VALUES|SET|AND|OR|HAVING|LIMIT)\b.*",
    r"#!/.*|.*; ?(?:do|then)|(?:done|fi|esac|end|then|do|EOF);?",
    r"(?:set|export|source|sudo|cd|mkdir|rm|cp|mv) [-\w./$\"]+.*",
    r"(?:use|using|require|package) [\w:.'\"/{}, ]+;?",
    r"(?:@|#\[)\w[\w.]*(?:\(.*\))?\]?",
    r"</?[a-zA-Z][\w-]*(?: [\w:@-]+(?:=\"[^\"]*\")?)* ?/?>.*",
    r"[({\[]|[)}\]]+[;,]?|.*[;)] ?\}",
    r".*(?:;|[)\w] ?\{|=>|->|\) ?:|&&|\|\|)",
    r"[\"'\w-]+ ?: ?[\[{\"'\w].*[,\[{]",
    r"\.\w+\(.*",
)
_PROSE: Final = r"[A-Z][a-z]+(?: [a-zA-Z',-]+){5,}.*"


@dataclass(frozen=True)
class SourceCode:
    """Kind ``source-code``: each line that looks like code among others that do.

    ``lines`` of nine in a row (a line, four before it, four after it) must look like code; a formula or a single
    command in a question does not count then. Rules of the policy with ``at_least`` say how much is too much.
    """

    lines: int = 4

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a number of lines that cannot be."""
        if not 1 <= self.lines <= 2 * _AROUND + 1:
            raise ConfigError(f"lines = {self.lines}: write a number from 1 to {2 * _AROUND + 1}")

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """The one detector."""
        code = linear(rf"^(?:{'|'.join(f'(?:{shape})' for shape in _SHAPES)})$")
        prose = linear(rf"^(?:{_PROSE})$")

        def is_code(line: str) -> bool:
            text = line.strip()
            return (
                len(line) <= _LONGEST
                and code.search(text) is not None
                and prose.search(text) is None
            )

        def find(text: str) -> Iterator[tuple[int, int]]:
            places = list(_lines(text))
            looks = [is_code(text[start:end]) for start, end in places]
            for number, (start, end) in enumerate(places):
                near = looks[max(0, number - _AROUND) : number + _AROUND + 1]
                if looks[number] and sum(near) >= self.lines:
                    yield start, end

        yield Detector(
            kind="source-code", find=find, window=_WINDOW, groups=("internal",), confidence=0.7
        )


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Where each line that is not blank begins and ends, without the blanks around it."""
    start = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            begin = start + line.index(stripped)
            yield begin, begin + len(stripped)
        start += len(line) + 1
