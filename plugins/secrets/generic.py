"""Secrets of services nobody listed: a name that asks for one, an assignment, a value that looks like one."""

from typing import Final

from plugins.secrets.checks import (
    is_passphrase,
    is_password,
    is_random,
    is_strictly_random,
    is_token,
)
from plugins.secrets.rule import ASSIGN_APART, ASSIGN_QUOTED, Rule, bounded

# A context has to begin with one of few literals, so that it costs nothing where none stands.
_PHRASE_NAMES: Final = r"(?i:passw|passphrase|passcode|pwd|psw|pass|login)"
_HIDDEN_NAMES: Final = r"(?i:secret|credential|private|webhook|nonce|salt)"
_BEARER_NAMES: Final = r"(?i:token|bearer|session|cookie|otp|_pat|jwt)"
_KEY_NAMES: Final = (
    r"(?i:(?:api|app|access|auth|client|encryption|license|master|private|read|sdk|secret|service"
    r"|signing|write)[_ .-]?key)"
)
_GRANT_NAMES: Final = r"(?i:auth[_ .-]?(?:code|id|pass)|authorization|oauth|access[_ .-]?code)"
# "key" alone asks for much that is no secret; as a part of a longer name it mostly does not.
_COMPOUND: Final = r"(?:_key|-key|_Key|-Key|KEY|Key|ACCESS|_access|AUTH|PRIVATE|_SK|_AK|_PAT|_sk=)"
_WEAK: Final = r"(?i:key|auth|access|signature|license|account)"
# What services put before the random part of their tokens.
_PREFIXES: Final = (
    r"(?:api|auth|access|bot|key|live|oat|pat|priv|prd|prod|sandbox|sec|secret|svc|tok|token|test|_at|_rt|_sk|_pk|_pw"
    r"|_pt|_st)"
)
_REST: Final = r"[\w.\-/]{0,40}(?: [\w.\-/]{1,24}){0,2}"
_BARE: Final = bounded(r"""[^\s"'`\\,;<>(){}\[\]&]{6,}""")
_RUN: Final = bounded(r"[\w.~+/=:%$!@|-]{10,}")
_QUOTED: Final = bounded(r"""(?:[^"'`\r\n\t\\]|\\[^"'`nrt]){6,}""")


def _generic(kind: str, names: str) -> Rule:
    return Rule(kind, _RUN, names + _REST + ASSIGN_APART, check=is_random, group="secrets.generic")


RULES = (
    Rule(
        "generic-password",
        _BARE,
        _PHRASE_NAMES + _REST + ASSIGN_APART,
        check=is_password,
        group="secrets.generic",
    ),
    Rule(
        "generic-quoted-password",
        _QUOTED,
        _PHRASE_NAMES + _REST + ASSIGN_QUOTED,
        r"""["'`\\]""",
        is_password,
        "secrets.generic",
    ),
    Rule(
        "generic-quoted-secret",
        _QUOTED,
        _HIDDEN_NAMES + _REST + ASSIGN_QUOTED,
        r"""["'`\\]""",
        is_passphrase,
        "secrets.generic",
    ),
    Rule(
        "generic-quoted-key",
        _QUOTED,
        _KEY_NAMES + _REST + ASSIGN_QUOTED,
        r"""["'`\\]""",
        is_passphrase,
        "secrets.generic",
    ),
    Rule(
        "generic-quoted-grant",
        _QUOTED,
        _GRANT_NAMES + _REST + ASSIGN_QUOTED,
        r"""["'`\\]""",
        is_passphrase,
        "secrets.generic",
    ),
    _generic("generic-secret", _HIDDEN_NAMES),
    _generic("generic-token", _BEARER_NAMES),
    _generic("generic-key", _KEY_NAMES),
    _generic("generic-grant", _GRANT_NAMES),
    Rule(
        "generic-compound-key",
        bounded(r"[\w.~+/=|:-]{10,}"),
        _COMPOUND + _REST + ASSIGN_APART,
        check=is_random,
        group="secrets.generic",
    ),
    Rule(
        "generic-weak-key",
        bounded(r"[\w.~+/=|-]{20,}"),
        _WEAK + _REST + ASSIGN_APART,
        check=is_strictly_random,
        group="secrets.generic",
    ),
    Rule(
        "prefixed-token",
        bounded(r"[A-Za-z0-9]{20,}"),
        rf"(?i:{_PREFIXES})[_-](?:[a-z0-9]{{1,8}}[_-]){{0,2}}",
        check=is_strictly_random,
        group="secrets.generic",
    ),
    # Tokens of services nobody listed have a short name before their random part, as all new ones do.
    Rule(
        "named-token",
        r"\b(?:[A-Za-z][A-Za-z0-9]{0,9}[_.]|[A-Za-z][A-Za-z0-9]{0,8}[A-Za-z]-)[A-Za-z0-9][\w.-]{31,199}",
        check=is_token,
        group="secrets.generic",
    ),
)
