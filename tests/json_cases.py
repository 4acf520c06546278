"""JSON that is, JSON that is not, and JSON that readers are free to take or not: one value per case.

Each family is generated from a few rules of RFC 8259, so that a case stands for a rule and not for a bug
of some parser. ``VALID`` must be taken and mean the same, ``BROKEN`` must be refused, ``OPEN`` is what the
RFC leaves open: here the verdict of this project is the expected one.
"""

import itertools
from collections.abc import Iterator
from typing import Final

Cases = Iterator[tuple[str, bytes]]

_BLANKS: Final = (b" ", b"\t", b"\n", b"\r")
_NO_BLANKS: Final = {
    "form feed": b"\x0c",
    "vertical tab": b"\x0b",
    "NUL": b"\x00",
    "backspace": b"\x08",
    "no-break space": b"\xc2\xa0",
    "line separator": b"\xe2\x80\xa8",
    "next line": b"\xc2\x85",
    "zero width space": b"\xe2\x80\x8b",
    "word joiner": b"\xe2\x81\xa0",
    "byte order mark": b"\xef\xbb\xbf",
    "ideographic space": b"\xe3\x80\x80",
}
_LITERALS: Final = (b"true", b"false", b"null")
_VALUES: Final = (b"1", b'"a"', b"[]", b"{}", b"null", b"true", b"-1.5e3", b'[{"a":[1]}]')
_NUMBERS: Final = (
    "0", "-0", "1", "-1", "10", "1234567890", "9223372036854775807", "-9223372036854775808",
    "18446744073709551615", "0.1", "-0.0", "1.5", "123.456", "0e1", "0E0", "0e+1", "0e-1", "1e5", "1E5",
    "1e+5", "1e-5", "1.5e3", "1.5E-3", "-1e-2", "20e1", "1e00", "1e+00", "1e005", "5e-324",
    "1.7976931348623157e308", "0.30000000000000004", "1.0", "100000000000000000000.0", "-12.0e-1",
)  # fmt: skip
_NO_NUMBERS: Final = (
    "+1", "++1", "--1", "-", "+", "-+1", ".5", "-.5", "1.", "-1.", "0.e1", "1.e1", "01", "-01", "00", "-00",
    "012", "0x1", "0X1F", "0b1", "0o7", "1e", "1e+", "1e-", "1E", "0e", "0E+", "1ee2", "1e1.5", "1.2.3", "1..2",
    "1 000", "1_000", "1,5e", "- 1", "1e 5", "1 e5", "1. 5", "NaN", "nan", "-NaN", "Infinity", "-Infinity",
    "+Infinity", "inf", "-inf", "INF", "1f", "1d", "1L", "1n", "0x", "#1", "$1", "½", "１", "٤", "1\u00a0",
    "e1", "E1", ".e1", "-e1", "1+1", "1-1", "1/2", "1%", "(1)", "1e٤", "−1", "∞", "1'000",
)  # fmt: skip
_NO_WORDS: Final = (
    "True", "TRUE", "tru", "truee", "False", "fals", "Null", "NULL", "nul", "None", "nil", "undefined",
    "yes", "on", "a", "abc", "*", "_", "`a`", "<null>", "@", "é", "\\u0041", "\\n", "true false", "nulltrue",
)  # fmt: skip
_ESCAPES: Final = (r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\u00e9")
_NO_ESCAPES: Final = (
    r"\a", r"\v", r"\0", r"\x41", r"\'", r"\ ", r"\u", r"\u0", r"\u00", r"\u004", r"\u004g", r"\uZZZZ",
    r"\U0041", r"\u 041", r"\u-041", r"\u+041", r"\u{41}", r"\é", r"\1", r"\8", r"\N", r"\e", r"\u００４１", "\\\t",
    "\\\n", "\\\x00",
)  # fmt: skip
_TEXTS: Final = (
    "", " ", "a", "é", "ß", "日本", "🙂", "\u2028", "\u2029", "\u0085", "\u00a0", "\x7f", "\ufeff", "\ufffe",
    "\U0010ffff", "\ufdd0", "́", "\u200b", "👩‍👩‍👧", "//", "/* a */", "{}", "[", "]", ":", ",", "'", "\\u0041",
    "null", "1", "#", "${x}", "{{7*7}}", "%(x)s", "{0.__class__}", "<!--", "a" * 1000,
)  # fmt: skip
_BROKEN_UTF_8: Final = {
    "continuation alone": b"\x80",
    "two continuations": b"\x80\xbf",
    "lead of two alone": b"\xc3",
    "lead of two and ASCII": b"\xc3(",
    "lead of three cut": b"\xe2\x82",
    "lead of four cut": b"\xf0\x9f\x99",
    "overlong slash": b"\xc0\xaf",
    "overlong NUL": b"\xc0\x80",
    "overlong of three": b"\xe0\x80\xaf",
    "overlong of four": b"\xf0\x80\x80\xaf",
    "encoded surrogate": b"\xed\xa0\x80",
    "encoded pair of surrogates": b"\xed\xa0\xbd\xed\xb9\x82",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "lead of five": b"\xf8\x88\x80\x80\x80",
    "lead of six": b"\xfc\x84\x80\x80\x80\x80",
    "FE": b"\xfe",
    "FF": b"\xff",
    "Latin 1": "café".encode("latin-1"),
}
_LONE: Final = (
    r"\ud800", r"\udfff", r"\udc00\ud800", r"\ud800\ud800", r"\ud800a", r"a\udc00", r"\ud83d\u0041", r"\uD800\n",
)  # fmt: skip
_STRUCTURES: Final = (
    "[", "]", "{", "}", "[[]", "[]]", "{}}", "{{}", "[}", "{]", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1:2]",
    "[1;2]", "[1", "[1,", '["a"', '["a', '[""', '["a",', "[[[", "]]]", "(1)", "<1>", "[1)", "{1}", "{1:1}", "{a:1}",
    "{'a':1}", '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}', '{"a":1 "b":2}', '{"a"=1}', '{"a",1}',
    '{"a"::1}', '{"a":1:2}', "{:1}", '{"a" 1}', '{"a":1', '{"a":', '{"a"', '{"a', '{"', '{"a":1]', '["a":1]',
    "{null:1}", "{true:1}", "{[1]:1}", '{"a":a}', '{"a":\'b\'}', "'a'", '"a', 'a"', '"', "''", '"a" "b"', '"a"b',
    '"a"+"b"', '"a" // c', "1 // c", "1 /* c */", "/* c */ 1", "1 # c", "[1 /* c */]", "[1, // c\n2]",
    '{"a":1 /* c */}', "[1]x", "[1] 1", "{}[]", "{} {}", "[][]", "1 2", "1,2", ",", ":", ",1", "1,", ":1", "*",
    "...", "[...]", "[1, ...]", "{...}", '{"a":1}}', '{"a":1}]', '[{"a":1]', '[{"a":1},]', "[[1],]", '["a",\n,1]',
    "<!DOCTYPE>", "<a/>", "a=1", "--- 1", "%YAML", ")]}'\n1", "while(1);[]", "=1", "@a", "&a", "[1]\x00", "\x00[1]",
)  # fmt: skip


def _numbers() -> Cases:
    for number in _NUMBERS:
        yield f"number {number}", number.encode()
        yield f"number {number} in a list", f"[{number}]".encode()


def _texts() -> Cases:
    for text in _TEXTS:
        plain = text.replace("\\", "\\\\")
        yield f"text {text[:8]!r}", f'"{plain}"'.encode()
        yield f"text {text[:8]!r} as a name", f'{{"{plain}":"{plain}"}}'.encode()
        units = text.encode("utf-16-be")
        escaped = "".join(
            f"\\u{units[at : at + 2].hex()}" for at in range(0, min(len(units), 80), 2)
        )
        yield f"text {text[:8]!r} in escapes", f'"{escaped}"'.encode()
    for escape in _ESCAPES:
        yield f"escape {escape}", f'"{escape}"'.encode()
    for first, second in itertools.product(_ESCAPES[:4], repeat=2):
        yield f"escapes {first}{second}", f'"{first}{second}"'.encode()


def _valid_structures() -> Cases:
    for blank in _BLANKS:
        yield f"blank {blank!r}", blank + b"[" + blank + b"1" + blank + b"," + blank + b"2]" + blank
        yield (
            f"blank {blank!r} in an object",
            b"{" + blank + b'"a"' + blank + b":" + blank + b"1" + blank + b"}",
        )
    for value in _VALUES:
        yield f"value {value!r}", value
        yield f"list of {value!r}", b"[" + value + b"," + value + b"]"
        yield f"object of {value!r}", b'{"a":' + value + b',"b":' + value + b"}"
    for depth in (2, 10, 50):
        yield f"lists {depth} deep", b"[" * depth + b"]" * depth
        yield f"objects {depth} deep", b'{"a":' * depth + b"1" + b"}" * depth
    yield "names that differ in case", b'{"a":1,"A":2}'
    yield "the empty name", b'{"":1}'
    yield "many members", b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(500)) + b"}"
    yield "many items", b"[" + b",".join(b"%d" % n for n in range(2000)) + b"]"


def valid() -> Cases:
    yield from _numbers()
    yield from _texts()
    yield from _valid_structures()


def _no_values() -> Cases:
    for number in _NO_NUMBERS:
        yield f"number {number}", number.encode()
        yield f"number {number} in a list", f"[{number}]".encode()
    for word in _NO_WORDS:
        yield f"word {word}", word.encode()
    for literal, blank in itertools.product(_LITERALS, (b"\x00", b"\x0c", b"a")):
        yield f"{literal!r} and {blank!r}", literal + blank


def _no_texts() -> Cases:
    for escape in _NO_ESCAPES:
        yield f"escape {escape!r}", f'"{escape}"'.encode()
        yield f"escape {escape!r} in a name", f'{{"{escape}":1}}'.encode()
    for code in range(32):
        yield f"control character {code}", b'["' + bytes([code]) + b'"]'
    for name, data in _BROKEN_UTF_8.items():
        yield f"{name} in a text", b'"' + data + b'"'
        yield f"{name} outside of one", data
        yield f"{name} in a name", b'{"' + data + b'":1}'


def _no_structures() -> Cases:
    for name, blank in _NO_BLANKS.items():
        for where, form in (("before", b"%b1"), ("after", b"1%b"), ("inside", b"[%b1]")):
            yield f"{name} {where}", form % blank
    for structure in _STRUCTURES:
        yield f"structure {structure}", structure.encode()
    for literal in (b'{"a":[true,1.5e1,"b"]}', b'["\\u00e9",-1]'):
        for end in range(1, len(literal)):
            yield f"cut {literal[:end]!r}", literal[:end]


def broken() -> Cases:
    yield from _no_values()
    yield from _no_texts()
    yield from _no_structures()


def open_to_readers() -> Cases:
    """What the RFC lets a reader refuse, and this one does, because readers disagree on the meaning."""
    for lone in _LONE:
        yield f"lone surrogate {lone}", f'"{lone}"'.encode()
        yield f"lone surrogate {lone} in a name", f'{{"{lone}":1}}'.encode()
    for number in ("1e309", "-1e309", "1e999999", "123e1000000", "18446744073709551616", "1" * 30):
        yield f"number {number}", number.encode()
    yield "a number of 5,000 digits", b"7" * 5000
    for first, second in (('"a"', '"a"'), ('"a"', r'"\u0061"'), ('""', '""'), ('"é"', r'"\u00e9"')):
        yield f"names {first} and {second}", f"{{{first}:1,{second}:2}}".encode()
    for depth in (80, 500, 100_000):
        yield f"lists {depth} deep", b"[" * depth + b"]" * depth
        yield f"objects {depth} deep", b'{"a":' * depth + b"1" + b"}" * depth
        yield f"open lists {depth} deep", b"[" * depth


VALID: Final = dict(valid())
BROKEN: Final = dict(broken())
OPEN: Final = dict(open_to_readers())
