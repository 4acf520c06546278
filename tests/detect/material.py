"""Detectors of every sort, and texts in which they nearly, just and doubly match."""

import random
import re
from collections.abc import Iterable, Iterator

from proxy.detect.detector import Detector
from proxy.detect.engine import Engine, Span
from proxy.detect.syntax import Alt, Assert, Cat, Char, Node, Repeat


def luhn(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()][::-1]
    return sum(digits[::2]) % 10 == sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) * 9 % 10


def shouted(text: str) -> Iterator[tuple[int, int]]:
    """Runs of A, three at a time: findings that depend on where one starts to look."""
    return (match.span() for match in re.finditer("[AÀ]{3}", text))


PATTERNS = [
    Detector.regex("github", r"\bghp_[0-9A-Za-z]{12}\b"),
    Detector.regex("aws", r"\b(?:AKIA|ASIA)[A-Z2-7]{6}\b"),
    Detector.regex("sk", r"\bsk-(?:proj-)?[A-Za-z0-9_-]{8,40}\b"),
    Detector.regex("email", r"\b[\w.+-]{1,20}@(?:[A-Za-z0-9-]{1,20}\.){1,4}[A-Za-z]{2,8}\b"),
    Detector.regex("card", r"\b[2-6](?:[ -]?\d){12,18}\b", check=luhn),
    Detector.regex("phone", r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}\b"),
    Detector.regex("ssn", r"\b\d{3}[- .]\d{2}[- .]\d{4}\b", fold=True),
    Detector.regex("fixed", r"tok[a-f]{4}"),
    Detector.regex("pair", r"ab|abc?d"),
    Detector.regex("line", r"(?m:^)item-\d{2}(?m:$)"),
    Detector.regex("first", r"\Aheader\d"),
    Detector.regex("last", r"\d{2}end\z"),
    Detector.regex(
        "password",
        r"[^\s'\"<>]{4,20}",
        context=r"(?i:password|pwd)['\"]?\s{0,3}(?::=|:|=|is)\s{0,3}['\"]?",
    ),
    Detector.regex(
        "bearer", r"[A-Za-z0-9._~+/=-]{6,40}", context=r"(?i:bearer|basic) {1,3}", fold=True
    ),
    Detector.regex("url", r"[^\s:@/]{3,20}", context=r"://[^\s:@/]{1,20}:", tail="@"),
    Detector.regex("near", r"[A-F0-9]{4}", context=r"\b(?:key|k)\b.{0,6}"),
    Detector.regex("split", r"bcd|cef", context=r"\w?(?:ab|a)"),
    Detector.regex("short", r"bcd|cef", context=r"\b(?:ab|a)"),
    Detector.regex("greedy", r"\d{2,5}", context=r"(?:no|number)\D{0,8}", tail=r"\D|\z"),
    Detector.regex("odd", r"x{2,3}", check=lambda text: len(text) != 3),
    Detector.regex("ligature", r"f|i", fold=True),
]
OTHERS = [
    Detector(kind="pem", opens=r"-----BEGIN [A-Z]{0,8}-----", closes=r"-----END-----", most=40),
    Detector(kind="jwt", opens=r"\beyJ\w{2,8}\.", tail=r"[^\w.]", fold=True),
    Detector(kind="shout", find=shouted, window=4),
    Detector(kind="folded-shout", find=shouted, window=5, fold=True),
]
DETECTORS = [*PATTERNS, *OTHERS]

_FRAGMENTS = """
ghp_16C7e42F292c ghp_ gh p_ AKIALALEME AKIA ASIA sk-proj-a1B2c3D4e5 sk- bob.x@a.co.uk bob @ a.co . .com
123-45-6789 123-45 4539148803436467 4539148803436468 4539 1488 +44 20 7946 0958 +44 tokabcd tokab tok ab abd abcd
abce acef item-12 item- header1 12end end password password: pwd = is : ' " hunter2x bearer Basic abcDEF12==
postgres://u: p4ss @host key k A0F3 no number no-123 12345 xx xxx xxxx -----BEGIN -----BEGIN KEY----- BEGIN -----
-----END----- eyJab. eyJ .abc AAA AAAA AÀA ﬁ ﬀ ﬃ １２３ － ４５ ６７８９ ⑩ é 日本 😀 the quick brown word A Z9 :// _ - 1
""".split()  # noqa: SIM905 - so many fragments read better in one string
_SPACES = [" ", " ", "\n", "", "\u200b", "\xa0", "\u00ad"]
FRAGMENTS = [*_FRAGMENTS, *_SPACES]
FRAGMENTS += [
    "password: 'hunter2x'",
    "pwd is ",
    "Bearer abcDEF12",
    "://postgres:p4ssw@h",
    "-----BEGIN KEY-----",
    "+44 20 7946",
]
FRAGMENTS += [
    "\nitem-12\n",
    "number is 12345",
    "key k A0F3",
    "-----BEGIN -----",
    "-----END-----",
    "１23－45－６７８９",
]
LETTERS = "aA1 -_.@:='\"<>+/\né😀kxbcdE０"


def text(random_: random.Random, most: int = 14) -> str:
    """A text of fragments, some with a few stray characters between."""
    parts = []
    for _ in range(random_.randint(0, most)):
        parts.append(random_.choice(FRAGMENTS))
        if random_.random() < 0.4:
            parts.append("".join(random_.choices(LETTERS, k=random_.randint(0, 4))))
        if random_.random() < 0.4:
            parts.append(random_.choice(" \n:="))
    return "".join(parts)


def cut(whole: str, random_: random.Random) -> list[str]:
    """``whole`` in pieces of a few characters."""
    pieces = []
    at = 0
    while at < len(whole):
        size = random_.choice([1, 1, 1, 2, 3, 4, 5, 9, 30])
        pieces.append(whole[at : at + size])
        at += size
    return pieces


def streamed(engine: Engine, pieces: Iterable[str]) -> tuple[str, list[Span]]:
    """What a stream released: the text and the spans; pieces are checked on the way."""
    stream = engine.stream()
    released = []
    spans: list[Span] = []
    at = fed = 0
    for part in [*pieces, None]:
        fed += len(part or "")
        for piece in stream.finish() if part is None else stream.feed(part):
            assert piece.start == at
            at += len(piece.text)
            assert all(piece.start <= span.start and span.end <= at for span in piece.spans)
            released.append(piece.text)
            spans += piece.spans
        assert stream.held == fed - at
    assert stream.held == 0
    return "".join(released), spans


def sample(node: Node, random_: random.Random) -> str:
    """One of the words that a pattern describes, none of its repetitions long."""
    match node:
        case Char(pattern, letters):
            return random_.choice(letters or _of(pattern))
        case Assert():
            return ""
        case Cat(parts):
            return "".join(sample(part, random_) for part in parts)
        case Alt(choices):
            return sample(random_.choice(choices), random_)
        case Repeat(inner, low, high):
            most = low + 3 if high is None else min(low + 3, high)
            return "".join(sample(inner, random_) for _ in range(random_.randint(low, most)))


def _of(pattern: str) -> str:
    signs = "".join(map(chr, range(32, 127))) + "\n\u00e9"
    return "".join(re.findall(pattern, signs, re.ASCII))
