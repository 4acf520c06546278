"""Refuses texts in languages that the company's guardrails do not read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

try:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier
except ImportError:  # pragma: no cover - tested in an environment without it
    LanguageIdentifier = None

from proxy import Call, ConfigError, Deny, hookimpl


@dataclass(frozen=True)
class Language:
    """``allowed`` are the languages (ISO 639-1, such as ``en``) in which people may write.

    Looked at is what people write: prompts, suffixes, inputs and the messages of users. A text shorter than
    ``shortest`` letters says too little, and one that is not recognised with ``confidence`` (0 to 1) passes unless
    ``unsure = "refuse"``. Code and names have no language: give ``confidence`` some room.
    """

    allowed: tuple[str, ...]
    shortest: int = 20
    confidence: float = 0.9
    unsure: str = "allow"
    _identifier: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for languages that are not known, or without the library."""
        if LanguageIdentifier is None:
            raise ConfigError("language needs a library: pip install 'outgate[language]'")
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        known = sorted(identifier.labels)
        for name in self.allowed:
            if name not in known:
                raise ConfigError(f"allowed: {name!r} is not known; there are: {', '.join(known)}")
        if (
            not self.allowed
            or not 0 <= self.confidence <= 1
            or self.unsure not in ("allow", "refuse")
        ):
            raise ConfigError(
                'write e.g. allowed = ["en", "de"], confidence = 0.9, unsure = "allow" or "refuse"'
            )
        object.__setattr__(self, "_identifier", identifier)

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse the first text in a language that is not allowed."""
        for param, text in _written(call):
            if sum(map(str.isalpha, text)) < self.shortest:
                continue
            language, sure = self._identifier.classify(text)
            if language in self.allowed if sure >= self.confidence else self.unsure == "allow":
                continue
            return Deny(
                f"Texts in this language are not sent from here; write in: {', '.join(self.allowed)}.",
                code="language_not_allowed", param=param,
            )  # fmt: skip
        return None


def _written(call: Call) -> Iterator[tuple[str, str]]:
    """What people wrote, text by text, with the parameter it is in."""
    writers = [
        message.get("role") in ("user", None) if isinstance(message, dict) else False
        for message in call.body.get("messages") or ()
    ]
    for text in call.texts():
        match text.place:
            case ("prompt" | "suffix" | "input" as param, *_) if not text.is_key:
                yield param, text.value
            case ("messages", int(number), "content", *rest) if not text.is_key and writers[number]:
                if not rest or rest[-1] == "text":
                    yield "messages", text.value
