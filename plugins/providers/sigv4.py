"""Signs requests to AWS with Signature Version 4, by botocore; the extra ``bedrock`` installs it.

By the AWS General Reference, "Signature Version 4 for API requests".
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import ConfigError, Secret, Unavailable

log: Final = logging.getLogger("outgate.sigv4")
_AWAY: Final = "the credentials of AWS are not to be had at the moment"


@dataclass(frozen=True)
class Signing:
    """Signs for one service of AWS, where an upstream has no API key of its own.

    The access key comes from where every tool of AWS looks: the environment, the files of a profile, the role of
    the container or machine. It is read when it is first needed, renewed before it ends, and kept by botocore.
    """

    service: str

    def __call__(self, settings: Mapping[str, str], credential: Secret | None) -> "Signed | None":
        """What signs for an upstream; None where it has a key, which goes in a header. Raises ``ConfigError``."""
        if credential is not None:
            return None
        if not settings.get("region"):
            raise ConfigError(
                'requests are signed for a region: write settings = { region = "eu-central-1" }, or a credential'
            )
        try:
            import botocore.auth  # noqa: F401 - an extra
        except ImportError:
            raise ConfigError(
                'its requests are signed by botocore: pip install "outgate[bedrock]", or write a credential, an API key'
                " of Bedrock"
            ) from None
        return Signed(self.service, settings["region"], settings.get("profile") or None)


@dataclass
class Signed:
    """Signs each request of one upstream; used by all of its threads."""

    service: str
    region: str
    profile: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _credentials: Any = field(default=None, repr=False)

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> dict[str, str]:
        """The headers of a request with its signature; raises ``Unavailable`` without credentials."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body or b"")
        SigV4Auth(self._frozen(), self.service, self.region).add_auth(request)
        return dict(request.headers.items())

    def _frozen(self) -> Any:
        """The access key of this moment."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._found()
            return self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            # No traceback: its message may say more than a log should hold.
            log.error("the credentials of AWS cannot be read: %s", type(error).__name__)  # noqa: TRY400
            raise Unavailable(_AWAY) from None

    def _found(self) -> Any:
        from botocore.session import Session

        found = Session(profile=self.profile).get_credentials()
        if found is None:
            log.error("no credentials of AWS: set AWS_ACCESS_KEY_ID, a profile, or a role")
            raise Unavailable(_AWAY)
        return found
