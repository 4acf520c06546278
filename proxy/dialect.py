"""What a provider needs that does not speak OpenAI's chats: a translation, in plain values and without a network."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from proxy.errors import OutgateError


class Untranslatable(OutgateError):
    """Raised by a dialect for a call that its provider cannot be asked; the caller gets 400.

    ``message`` is shown to the caller: say what to do instead. ``param`` names the parameter at fault.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Interpreter(Protocol):
    """Reads one stream of a provider, event by event."""

    @property
    def done(self) -> bool:
        """Whether the provider said that its stream is over."""
        ...

    def chunks(self, event: str, payload: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """What an event comes to: chunks of an OpenAI chat, none, or a single ``{"error": {…}}``, which ends it.

        ``event`` is the event's name, empty where it has none. Of a chunk only what is known is given: ``id`` and
        ``model`` hold for all later ones, ``choices`` with ``delta`` and ``finish_reason``, ``usage``.
        """
        ...


@runtime_checkable
class Dialect(Protocol):
    """Turns one chat into the words of a provider, and its answer into those of OpenAI.

    Every text of a translated body comes from the body that was asked, or is one of ``words``, which are the
    dialect's own; anything else is judged by the policy before it is sent. An exception other than
    ``Untranslatable`` refuses the call, or ends its answer.
    """

    @property
    def words(self) -> Collection[str]:
        """Every text of its own that it may put into a body."""
        ...

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The provider's body for the body of a chat; raises ``Untranslatable``. Nothing is dropped in silence."""
        ...

    def reply(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """The OpenAI chat for a complete answer; ``object`` and ``created`` need not be said."""
        ...

    def error(self, status: int, payload: Any) -> Mapping[str, Any]:
        """``message``, ``type``, ``code`` of the error that an answer with this status tells; what is missing is added.

        ``payload`` is None where the answer is no JSON.
        """
        ...

    def stream(self) -> Interpreter:
        """An interpreter for one stream."""
        ...
