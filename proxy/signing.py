"""What signs the requests to an upstream, where no header with a credential will do."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from proxy.secret import Secret

#: Signs one request: method, full URL, headers and body give the headers that are sent in their place. It may raise
#: ``Unavailable``.
Sign: TypeAlias = Callable[[str, str, Mapping[str, str], bytes | None], Mapping[str, str]]
#: Makes the ``Sign`` of one upstream out of its settings and its credential, or None where the credential goes in
#: its header; raises ``ConfigError``.
Signer: TypeAlias = Callable[[Mapping[str, str], Secret | None], Sign | None]
