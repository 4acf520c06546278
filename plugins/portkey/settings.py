"""What one target of a Portkey config says of itself: names, retries, statuses, times, weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from plugins.portkey.keys import CACHE, RETRY, Refused, fields_of, nearest
from proxy import ConfigError, Retry, Target

#: Whom a target may name.
KINDS: Final = ("provider", "virtual_key", "custom_host")
#: Without ``on_status_codes`` a fallback goes on after any error.
ANY_ERROR: Final = frozenset(range(400, 600))
#: Portkey tells of an upstream that did not answer in time as 408, and of a broken connection as 500.
_TIMED_OUT: Final = 408
UNANSWERED: Final = frozenset({_TIMED_OUT, 500, 502, 504})
#: Its documentation, "Automatic retries".
_RETRIED: Final = frozenset({429, 500, 502, 503, 504, 529})
#: Portkey never tries more often, whatever a config says.
_MOST_RETRIES: Final = 5
#: What an upstream asks for (``retry-after``) is waited for at most so many seconds.
_PATIENT: Final = 60.0
_IMPATIENT: Final = 8.0
_MOST_CODES: Final = 64
_LONGEST_TIMEOUT: Final = 3_600_000  # milliseconds


def settings_of(fields: Mapping[str, Any], place: str, above: Target) -> Target:
    """What holds for a target: its own settings, and what is above it where it says nothing."""
    if "cache" in fields:
        cache = fields_of(fields["cache"], f"{place}.cache", CACHE)
        one_of(cache.get("mode"), f"{place}.cache.mode", ("simple", "semantic"))
    if "name" in fields:
        name_of(fields["name"], f"{place}.name")
    amount(fields.get("weight", 1), f"{place}.weight", math.inf)
    body = fields.get("override_params", {})
    if not isinstance(body, Mapping):
        raise Refused(f"{place}.override_params is no object: write one.")
    if "model" in body and not (isinstance(body["model"], str) and body["model"]):
        raise Refused(f"{place}.override_params.model is no name of a model: write one.")
    timeout = fields.get("request_timeout")
    if timeout is not None:
        timeout = amount(timeout, f"{place}.request_timeout", _LONGEST_TIMEOUT) / 1000 or None
    try:
        return Target(
            "",
            body={**above.body, **body},
            timeout=timeout or above.timeout,
            retry=_retry(fields["retry"], f"{place}.retry") if "retry" in fields else above.retry,
        )
    except ConfigError as error:
        raise Refused(f"{place}.override_params: {error}.") from None


def _retry(value: Any, place: str) -> Retry:
    fields = fields_of(value, place, RETRY)
    attempts = fields.get("attempts")
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 0:
        raise Refused(f"{place}.attempts is no number of retries: write 0 to {_MOST_RETRIES}.")
    asked = [fields.get(name, False) for name in RETRY[2:]]
    if not all(isinstance(value, bool) for value in asked):
        raise Refused(f"{place}.use_retry_after_header is neither true nor false: write one.")
    on = codes_of(fields, place, _RETRIED)
    return Retry(
        attempts=min(attempts, _MOST_RETRIES) + 1,
        on=on,
        unanswered=_TIMED_OUT in on,
        patience=_PATIENT if any(asked) else _IMPATIENT,
    )


def named_in(fields: Mapping[str, Any], place: str) -> dict[str, str]:
    """Kind → name, as the tables of the plugin have them."""
    named = {
        key.replace("_", "-"): name_of(fields[key], f"{place}.{key}")
        for key in KINDS
        if key in fields
    }
    if host := named.get("custom-host"):
        named["custom-host"] = host.rstrip("/")
    return named


def codes_of(fields: Mapping[str, Any], place: str, default: frozenset[int]) -> frozenset[int]:
    """``on_status_codes``, or ``default`` where it is not said; raises ``Refused``."""
    codes = fields.get("on_status_codes")
    if codes is None:
        return default
    if (
        not isinstance(codes, list)
        or len(codes) > _MOST_CODES
        or not all(type(code) is int and code in ANY_ERROR for code in codes)
    ):
        raise Refused(
            f"{place}.on_status_codes is no list of up to {_MOST_CODES} statuses of errors, 400 to 599: write one;"
            " every other answer is passed on."
        )
    return frozenset(codes)


def one_of(value: Any, place: str, known: Sequence[str]) -> str:
    """One of the words there are; raises ``Refused`` for anything else."""
    if value not in known:
        meant = nearest(value, known) if isinstance(value, str) else ""
        raise Refused(f"{place}: write one of {', '.join(known)}.{meant}")
    return cast(str, value)


def name_of(value: Any, place: str) -> str:
    """A text; raises ``Refused`` for anything else."""
    if not isinstance(value, str):
        raise Refused(f"{place} holds a value that is no text; send a name.")
    return value


def amount(value: Any, place: str, most: float) -> float:
    """A number from 0 to ``most``; raises ``Refused`` for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise Refused(f"{place} is no number from 0{'' if most == math.inf else f' to {most}'}.")
    return float(value)
