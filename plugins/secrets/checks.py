"""Tells secrets from what only looks like them: placeholders, words, identifiers, hashes; verifies checksums."""

# ruff: noqa: PLR2004 - each bound stands beside what it bounds

import base64
import binascii
import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from operator import add
from typing import Final

_DUMMY: Final = re.compile(
    r"example|sample|dummy|placeholder|changeme|change[-_]?me|replace|redacted|your[-_]?|my[-_]?(?:api|secret|token|pass)"
    r"|insert|foobar|lorem|_here|here$|todo|fixme|notreal|fake|deadbeef|abcdefghij|123456789|0{8}|qwerty",
    re.IGNORECASE,
)
# What must stand where one of these patterns is to match after the start: they are slow, and often asked.
_DUMMY_PARTS: Final = (
    "example", "sample", "dummy", "placeholder", "change", "replace", "redacted", "your", "my", "insert", "foobar",
    "lorem", "here", "todo", "fixme", "notreal", "fake", "deadbeef", "abcdefghij", "123456789", "00000000", "qwerty",
)  # fmt: skip
_REFERENCE_PARTS: Final = ("{{", "...", "…", "****")
_CODE_PARTS: Final = ("()", "::", "->", "=>", "==", "&&", "||", "/")
_REFERENCE: Final = re.compile(
    r"^\$?\{[^{}]*\}$|\{\{\s|\{\{[.\w]+\}\}|^\$\(?[A-Za-z_]\w*\)?$|^%[\w(]+\)?[%s]?$|^<[^<>]*>$|^#\{|^\*+$|\.\.\.|…|\*{4}"
    r"|^\$\{|^\$[A-Z_]{3,}\b|^[,;)\]]|^(?:process|os|env|self|this|config|settings|secrets|var|data|local|each|module|ref)\.[A-Za-z_]"
)
_CODE: Final = re.compile(
    r"^[\w.]+\([^()]*\)?;?$|\(\)|^\w+\.\w+\.[A-Za-z_]\w*$|^[\w.]+\[[^\]]*\]?|::|->|=>|==|&&|\|\||^[A-Za-z_]+\.[A-Za-z_]+$|^\.{0,2}/[\w./-]+$|^[\w.-]+/[\w./-]+#\w+$|://|/[a-z_]+="
    r"|^(?:list|dict|map|set|optional|union|array|promise|record)[<\[]"
)
_AROUND: Final = "\"'`=:.,;-_ "
_SYMBOLS: Final = frozenset("!@#$%^&*?~+|{}[]()<>;,§±€£")
_COMMON: Final = re.compile(
    r"(?i)^[\[<(]?(?:my|your|db|the|some)?[_-]?(?:user)?(?:pass|passwd|password|pwd|pw|token|key|xxx+|\*+)[\])>]?$"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_SIGN: Final = re.compile("[_.-]")
_DIGIT: Final = re.compile(r"\d")
_LETTER: Final = re.compile(r"[^\W\d_]")
_JOINT: Final = re.compile("[_./:-]")
_LETTERS: Final = re.compile(r"[A-Za-z]+")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_FUNCTION_WORDS: Final = "the and for with that this from are was you your not have has but can"
_PROSE: Final = frozenset(_FUNCTION_WORDS.split())
# The commonest pairs of letters in English and in programmers' names: about a fifth of all pairs,
# but four fifths of those in words.
_COMMON_PAIRS: Final = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io "
    "le ve co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho "
    "pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie wh ee wi em ad ol rt "
    "po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry "
    "mp fe bl ab gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ey ok ck "
    "pi um ue qu pt ub ui us ys"
)
_PAIRS: Final = frozenset(_COMMON_PAIRS.split())


def entropy(text: str) -> float:
    """Shannon's entropy in bits a character."""
    size = len(text)
    repeated = [n for n in Counter(text).values() if n > 1]
    return math.log2(size) - sum(n * math.log2(n) for n in repeated) / size if size else 0.0


def not_placeholder(text: str) -> bool:
    """Whether the text could be real: neither a dummy nor a run of the same few characters."""
    return len(set(text[-24:])) > 4 and not _is_reference(text)


def wordlike(text: str) -> bool:
    """Whether the letters of the text read like words: most of their pairs are common ones."""
    pairs = [pair for run in _LETTERS.findall(text.lower()) for pair in map(add, run, run[1:])]
    return sum(map(_PAIRS.__contains__, pairs)) > 0.52 * len(pairs) if pairs else False


def is_random(text: str) -> bool:
    """Whether a value after a name that asks for a secret is one: not a dummy, name, number or version."""
    body = text.strip(_AROUND)
    if len(body) < 8 or _is_reference(body) or _is_dummy(body):
        return False
    if _UUID.fullmatch(body):
        return len(set(body)) > 6
    return _mixed(body) and entropy(body) > min(3.0, 0.58 * math.log2(len(body)))


def is_strictly_random(text: str) -> bool:
    """``is_random`` where the surroundings say little: digits and both cases, so neither a hash nor an id in hex."""
    return (
        _DIGIT.search(text) is not None
        and text != text.lower()
        and text != text.upper()
        and is_random(text)
    )


def is_token(text: str) -> bool:
    """Whether what follows a short name and a sign is random: in all cases, or long and no hash."""
    rest = _SIGN.split(text, maxsplit=1)[1]
    if is_strictly_random(rest):
        return True
    return len(rest) >= 40 and rest.isalnum() and entropy(rest) > 4.2 and is_random(rest)


def is_password(text: str) -> bool:
    """Whether a value after "password" is one: people's passwords are short and may hold words."""
    body = text.strip("\"'`#.,;:? ")
    if len(body) < 5 or len(set(body)) < 4 or _is_reference(body) or _is_code(body):
        return False
    symbols = sum(c in _SYMBOLS for c in body[1:-1])
    digits = sum(c.isdigit() for c in body)
    letters = sum(c.isalpha() for c in body)
    if letters and (symbols or digits):
        return not _is_dummy(body) and not (symbols == 0 and _is_identifier(body))
    return letters >= 10 and symbols == 0 and not wordlike(body)


def is_passphrase(text: str) -> bool:
    """Whether a quoted value is a secret that people made: words are in order when signs stand between."""
    body = text.strip()
    if any(c.isspace() for c in body):
        return False
    return is_random(body) or (is_password(body) and any(c in _SYMBOLS for c in body[1:-1]))


def is_user_password(text: str) -> bool:
    """Whether ``user:password`` holds a password; services that know one key put it on either side."""
    user, _, password = text.strip("\"'").partition(":")
    return is_password(password) if password.strip("\"'") else is_password(user)


def is_url_password(text: str) -> bool:
    """Whether what stands as a password in a URL is one: in examples it is a word for it."""
    password = text.partition("://")[2].partition("@")[0].partition(":")[2] or text
    return len(set(password)) > 2 and not _is_reference(password) and not _COMMON.search(password)


def _is_reference(text: str) -> bool:
    """Whether the text names the secret instead of being it: a variable, a template, an ellipsis."""
    return _stands(_REFERENCE, _REFERENCE_PARTS, text)


def _is_code(text: str) -> bool:
    return _stands(_CODE, _CODE_PARTS, text)


def _stands(pattern: re.Pattern[str], parts: Iterable[str], text: str) -> bool:
    if pattern.match(text) is not None:
        return True
    return any(part in text for part in parts) and pattern.search(text) is not None


def _is_dummy(text: str) -> bool:
    low = text.lower()
    dummy = any(part in low for part in _DUMMY_PARTS) and _DUMMY.search(text) is not None
    return dummy and not _survives_dummy(text)


def _survives_dummy(text: str) -> bool:
    """A dummy word by chance inside a long random string is no sign of a dummy."""
    rest = _DUMMY.sub("", text)
    return len(rest) >= 24 and entropy(rest) > 3.6 and not wordlike(rest)


def _mixed(text: str) -> bool:
    if _is_code(text):
        return False
    if _DIGIT.search(text) is None:
        return len(text) >= 16 and not wordlike(text)
    if _LETTER.search(text) is None:
        return len(text) >= 24 and len(set(text)) > 5
    return not _is_identifier(text)


def _is_identifier(text: str) -> bool:
    """``text-embedding-3-large``, ``sha256``, ``v1beta1``, ``part-00012``: words with a few digits."""
    letters = [part for part in _WORDS.findall(text) if part.isalpha() and len(part) > 2]
    covered = sum(map(len, letters))
    digits = sum(map(str.isdigit, text))
    joined = len(text) < 8 or covered > 0.8 * len(text) or _JOINT.search(text) is not None
    return (
        joined
        and covered > 2 * digits
        and covered > 0.55 * len(text)
        and wordlike(" ".join(letters))
    )


def crc32_base62(text: str) -> str:
    """The checksum that ends a GitHub or npm token: the CRC32 of its random part in base 62, six digits."""
    number, digits = zlib.crc32(text.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits.rjust(6, "0")


def checksummed(text: str) -> bool:
    """A right checksum proves a token, however odd it looks; a wrong one only leaves it to ``not_placeholder``."""
    body = text.partition("_")[2]
    return crc32_base62(body[:-6]) == body[-6:] or not_placeholder(text)


def is_prefixed(text: str) -> bool:
    """Whether what follows a telling prefix is random without a capital: hexadecimal, or of many letters."""
    digits = sum(c.isdigit() for c in text)
    return digits >= 4 and digits < len(text) - 3 and is_random(text)


def is_basic(text: str) -> bool:
    """Whether the text is the base64 of ``name:password`` (RFC 7617)."""
    try:
        raw = base64.b64decode(
            text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_"
        )
        name, sign, password = raw.decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return bool(sign) and len(name) + len(password) > 3 and (name + password).isprintable()


def is_wif(text: str) -> bool:
    """Whether the text is a Bitcoin private key in wallet import format, by its checksum."""
    number = 0
    for char in text:
        number = number * 58 + _BASE58.index(char)
    raw = number.to_bytes((number.bit_length() + 7) // 8)
    digest = hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()
    return len(raw) in (37, 38) and raw[0] in (0x80, 0xEF) and digest[:4] == raw[-4:]


def is_bitlocker(text: str) -> bool:
    """Whether each group of six digits is a multiple of 11 below 720896, as in a BitLocker recovery key."""
    groups = [int(group) for group in text.split("-")]
    return len(set(groups)) > 4 and all(group % 11 == 0 and group < 720896 for group in groups)


def is_phrase(text: str) -> bool:
    """Whether the text is 12, 15, 18, 21 or 24 words, few of them the short ones of prose (BIP 39)."""
    words = re.findall("[a-z]+", text)
    return len(words) in (12, 15, 18, 21, 24) and sum(word in _PROSE for word in words) < 3
