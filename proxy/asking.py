"""Questions to a service of the company over HTTP: one URL, bounded in time and size, neither proxies nor redirects."""

import http.client
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from proxy.connection import Connection
from proxy.connections import Connections


class Asker:
    """Posts to one URL and reads the answer; safe to use from several threads.

    ``timeout`` is in seconds, for all of it; ``most`` in bytes, of the answer. ``retries`` follow where the service
    cannot be reached, or hangs up before it says anything. Connections are kept. Raises ``ConfigError`` for a URL
    that is not ``https://host[:port][/path]``. Plain ``http://`` goes to this machine only, unless ``allow_http``.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        allow_http: bool = False,
        timeout: float = 3.0,
        retries: int = 1,
        most: int = 65536,
    ) -> None:
        self._connections = Connections(
            url,
            ca_bundle=ca_bundle,
            client_cert=client_cert,
            client_key=client_key,
            allow_plain=allow_http,
        )
        self._timeout = timeout
        self._retries = retries
        self._most = most

    def ask(
        self, body: bytes, headers: Mapping[str, str], *, seconds: float | None = None
    ) -> tuple[int, bytes]:
        """The status and the body of the answer; ``seconds`` shorten the timeout.

        Raises ``OSError`` when there is none, also for one that is not HTTP, was cut, or is too large.
        """
        limit = self._timeout if seconds is None else min(seconds, self._timeout)
        question = partial(self._answer, body=body, headers=headers)
        return self._connections.ask(question, seconds=limit, retries=self._retries)

    def _answer(
        self, connection: Connection, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        where = self._connections.where
        line = http.client.HTTPConnection(where.host, where.port)
        line.default_port = {"http": 80, "https": 443}[where.scheme]
        line.sock = cast(Any, _Wire(connection))
        try:
            line.request("POST", where.path or "/", body, {"user-agent": "outgate", **headers})
            response = line.getresponse()
            stays = not response.will_close
            data = response.read(self._most + 1)
        except ConnectionError:
            raise
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {type(error).__name__}") from None
        if len(data) > self._most:
            raise OSError(f"the answer has more than {self._most} bytes")
        if response.length:
            raise OSError("the answer was cut")
        connection.keep = stays
        return response.status, data


class _Wire:
    """A connection as ``http.client`` writes to and reads from it; closing this leaves it to whoever keeps it."""

    def __init__(self, connection: Connection) -> None:
        self.sendall = connection.sendall
        self.readline = connection.readline
        self.read = connection.read

    def makefile(self, _: str) -> "_Wire":
        return self

    def close(self) -> None:
        pass

    flush = close
