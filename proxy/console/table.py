"""``[console]``: who may look at the page, and from where."""

from typing import Final

from msgspec import Struct

from proxy.errors import ConfigError
from proxy.secret import Secret

#: Where the page is; not to be chosen, so that a web server in front can be told to refuse it.
PATH: Final = "/console"
_SHORTEST_TOKEN: Final = 16


class ConsoleTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[console]``: ``token`` lets in, and with ``loopback_only`` only from this machine."""

    token: Secret
    loopback_only: bool = True

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a token that can be guessed."""
        if len(self.token.reveal()) < _SHORTEST_TOKEN:
            raise ConfigError(
                f"console.token: shorter than {_SHORTEST_TOKEN} characters can be guessed:"
                " make one with openssl rand -hex 32"
            )
