"""What an operator says of the bridge: ``[upstreams.NAME.bridge]``."""

from collections.abc import Iterable
from functools import cache
from typing import Final, Literal

from msgspec import Struct, structs

from proxy.errors import ConfigError
from proxy.patterns import Globs

#: What a model is told with ``message = "continue"``, unless the operator words it otherwise.
CONTINUE: Final = (
    "Continue the text you are given. Write only what comes next, as if you were its author:"
    " no introduction, no comment, no quotation marks, nothing of the text itself."
)
#: OpenAI's models that refuse ``max_tokens`` on the chat route.
NEWER: Final = ("o1*", "o3*", "o4*", "gpt-5*", "gpt-6*")


class Bridge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How completions go to an upstream as chats.

    ``always`` bridges even where the provider has a completions route. ``max_completion_tokens`` are globs of
    models that take their limit under this name. ``split_n`` sends n chats for ``n``, for servers that ignore it.
    ``parallel`` chats of one call are under way at once, and ``parts`` are the most one call may become.
    """

    always: bool = False
    message: Literal["user", "continue"] = "user"
    system: str | None = None
    suffix: str | None = None
    max_completion_tokens: tuple[str, ...] = NEWER
    split_n: bool = False
    parallel: int = 8
    parts: int = 128

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for values that contradict each other or could do nothing."""
        if self.system is not None and self.message != "continue":
            raise ConfigError(
                'bridge.system is only sent with message = "continue": set it, or remove system'
            )
        if self.suffix is not None and not (
            "{prompt}" in self.suffix and "{suffix}" in self.suffix
        ):
            raise ConfigError(
                "bridge.suffix must hold {prompt} and {suffix}, e.g."
                ' suffix = "Write what stands between A and B.\\nA: {prompt}\\nB: {suffix}"'
            )
        for field in ("parallel", "parts"):
            if getattr(self, field) < 1:
                raise ConfigError(
                    f"bridge.{field} = {getattr(self, field)}: write a number above zero"
                )
        _globs(self.max_completion_tokens)  # says what is wrong with them

    def overridden(self, entry: "Bridge", written: Iterable[str]) -> "Bridge":
        """These settings, a provider's, with what an operator has ``written`` of his own ``entry``."""
        changes = {name: getattr(entry, name) for name in written}
        if "message" in changes:
            changes.setdefault("system", None)  # it belongs to the message that it was worded for
        return structs.replace(self, **changes) if changes else self

    def limit_name(self, model: str | None) -> str:
        """The name under which ``model`` takes the most tokens it may write."""
        newer = _globs(self.max_completion_tokens).match(model or "")
        return "max_completion_tokens" if newer else "max_tokens"


@cache
def _globs(patterns: tuple[str, ...]) -> Globs:
    return Globs(patterns)
