"""Says who calls by signed tokens of a company's single sign-on (JSON Web Tokens, RFC 7519 and RFC 8725)."""

import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import certifi

from proxy import ConfigError, Principal, Request, Unavailable, hookimpl

try:
    import jwt
except ImportError:
    raise ConfigError("PyJWT is not installed: pip install 'outgate[jwt]'") from None

log: Final = logging.getLogger("outgate.jwt")
#: Signatures by which the holder of a public key can check, but not make, a token; and the keys they need.
_KEY_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
_LONGEST_TOKEN: Final = 8192
_LONGEST_NAME: Final = 256
_LARGEST_SET: Final = 1024 * 1024
_PATIENCE: Final = 3.0  # seconds that fetching the keys may take
_UNKNOWN_AGAIN: Final = 60.0  # seconds between two fetches for the sake of a key that is not known
_FAILED_AGAIN: Final = 5.0  # seconds between two fetches while there are no keys at all
_OK: Final = 200

#: By name and algorithm.
Keys: TypeAlias = Mapping[tuple[str | None, str], "jwt.PyJWK"]


@dataclass(frozen=True)
class JwtTokens:
    """Tokens of ``issuer`` for ``audience``, checked with the keys in ``jwks_file`` or at ``jwks_url``.

    Whatever is wrong with a token, it is simply not known, and its caller gets the constant 401.
    """

    issuer: str
    audience: tuple[str, ...]
    jwks_file: str | None = None
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 30.0
    name_claim: str = "sub"
    groups_claim: str = "groups"
    team_claim: str | None = None
    prefix: str = ""
    refresh: float = 300.0
    ca_bundle: str | None = None
    allow_private: bool = False
    _keys: "_KeySet" = field(init=False, repr=False)
    _decoder: "jwt.PyJWT" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A file is read now; a URL at the first token, since its server need not be up before us."""
        self._check()
        if self.jwks_file is not None:
            keys = _KeySet(_file(Path(self.jwks_file)), self.algorithms, self.refresh)
            keys.read()
        else:
            source = _Server(self.jwks_url or "", self.ca_bundle, allow_private=self.allow_private)
            keys = _KeySet(source.fetch, self.algorithms, self.refresh)
        decoder = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "_decoder", decoder)

    def _check(self) -> None:
        if not (self.issuer and self.audience and all(self.audience)):
            raise ConfigError("issuer and audience must say whose tokens, and for whom, are taken")
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ConfigError('write either jwks_file = "/path" or jwks_url = "https://…"')
        for name in self.algorithms:
            if name not in _KEY_TYPES:
                raise ConfigError(
                    f"algorithms: {name!r} is not taken, since it does not rest on a public key."
                    f" There are: {', '.join(_KEY_TYPES)}"
                )
        if not self.algorithms or not 0 <= self.leeway <= 300 or not self.refresh >= 1:  # noqa: PLR2004
            raise ConfigError(
                "algorithms needs an entry, leeway is 0 to 300 s, refresh at least 1 s"
            )

    @hookimpl
    def identify(self, request: Request) -> Principal | None:
        """The caller that a sound token names; raises ``Unavailable`` while there are no keys at all."""
        shown = request.credentials.caller
        token = shown.reveal() if shown else ""
        if token.count(".") != 2 or len(token) > _LONGEST_TOKEN:  # noqa: PLR2004 - three parts
            return None
        try:
            return self._principal(self._claims(token))
        # The message of an error may repeat the token.
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            log.info("a token was refused: %s", type(error).__name__)
            return None

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in self.algorithms:
            raise jwt.InvalidAlgorithmError
        key = self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise jwt.InvalidKeyError
        return self._decoder.decode(
            token, key, [algorithm], audience=self.audience, issuer=self.issuer,
            leeway=self.leeway, options={"require": ["exp", "iss", "aud"]},
        )  # fmt: skip

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        name = f"{self.prefix}{_text(_claim(claims, self.name_claim))}"
        groups = _claim(claims, self.groups_claim)
        listed = groups if isinstance(groups, list) else [] if groups is None else [groups]
        metadata = {"owner": name}
        if self.team_claim is not None:
            metadata["team"] = _text(_claim(claims, self.team_claim))
        return Principal(name, tuple(map(_text, listed)), metadata)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by its path with dots between: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable():
        return value
    raise ValueError("a claim that names somebody is no printable text")


class _KeySet:
    """The issuer's public keys; the last that could be read stay in force until others can."""

    def __init__(self, source: Callable[[], bytes], algorithms: tuple[str, ...], refresh: float) -> None:  # fmt: skip
        self._source = source
        self._algorithms = algorithms
        self._refresh = refresh
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._tried = float("-inf")

    def find(self, kid: str | None, algorithm: str) -> "jwt.PyJWK | None":
        """The key of that name for ``algorithm``; without a name the only one there is for it."""
        found = self._known(kid, algorithm)
        age = time.monotonic() - self._tried
        if found is not None:
            if age > self._refresh and self._lock.acquire(blocking=False):
                threading.Thread(target=self._renew, name="jwt-keys", daemon=True).start()
            return found
        pause = _UNKNOWN_AGAIN if self._keys else _FAILED_AGAIN
        if age > pause and self._lock.acquire(timeout=_PATIENCE):
            self._renew()
            found = self._known(kid, algorithm)
        if not self._keys:
            raise Unavailable("Tokens cannot be checked at the moment. Try again.")
        return found

    def read(self) -> None:
        """Read the keys; raises ``ConfigError`` when there are none."""
        self._tried = time.monotonic()
        found = _usable(self._source(), self._algorithms)
        if not found:
            raise ConfigError(f"no public key for {', '.join(self._algorithms)} is in the set")
        self._keys = found

    def _known(self, kid: str | None, algorithm: str) -> "jwt.PyJWK | None":
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, name), key in self._keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _renew(self) -> None:
        """Read the keys under the lock, which is given back; a set that cannot be read changes nothing."""
        try:
            # Whoever waited for the lock finds what another has just read.
            if time.monotonic() - self._tried > _FAILED_AGAIN / 2:
                self.read()
        except (ConfigError, OSError, http.client.HTTPException, ValueError) as error:
            kept = len(self._keys)
            log.error("keys: %s: %s; %d stay in force", type(error).__name__, error, kept)  # noqa: TRY400
        finally:
            self._lock.release()


def _usable(data: bytes, algorithms: tuple[str, ...]) -> Keys:
    """Each public key for signatures with each of the algorithms that it may be used with."""
    usable: dict[tuple[str | None, str], jwt.PyJWK] = {}
    found = json.loads(data)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ConfigError('a set of keys is an object with a list "keys" (RFC 7517 section 5)')
    for key in listed:
        # What holds a private part is not fit to tell the issuer from anybody else who read it.
        if not isinstance(key, dict) or "d" in key or key.get("use", "sig") != "sig":
            continue
        for algorithm in algorithms:
            if key.get("kty") == _KEY_TYPES[algorithm] and key.get("alg", algorithm) == algorithm:
                # A key of another curve is none for this algorithm.
                with suppress(jwt.PyJWTError):
                    usable.setdefault((key.get("kid"), algorithm), jwt.PyJWK(key, algorithm))
    return usable


def _file(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"jwks_file {str(path)!r}: {error.strerror}. Put the issuer's key set there, readable by this user."
            ) from None

    return read


class _Server:
    """The one URL that keys are fetched from: no redirect, no proxy of the environment, no ``jku`` of a token."""

    def __init__(self, url: str, ca_bundle: str | None, *, allow_private: bool) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port or 443
        except ValueError:
            raise ConfigError("jwks_url cannot be read as a URL") from None
        if parts.scheme != "https" or not self._host or parts.username or parts.fragment:
            raise ConfigError("jwks_url: write https://host/path, without a user and without #")
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._allow_private = allow_private
        try:
            self._tls = ssl.create_default_context(cafile=ca_bundle or certifi.where())
        except OSError as error:
            raise ConfigError(f"ca_bundle {ca_bundle!r}: {error.strerror or error}") from None

    def fetch(self) -> bytes:
        """The set as it is now; raises ``OSError``, ``http.client.HTTPException`` or ``ConfigError``."""
        deadline = time.monotonic() + _PATIENCE
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=_PATIENCE)
        connection.sock = self._connected()
        try:
            connection.request("GET", self._path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            if answer.status != _OK:
                raise ConfigError(f"jwks_url answered with status {answer.status}, not 200")
            data = b""
            while piece := answer.read1(65536):
                data += piece
                if len(data) > _LARGEST_SET or time.monotonic() > deadline:
                    raise ConfigError("jwks_url: the set of keys is too large, or comes too slowly")
            return data
        finally:
            connection.close()

    def _connected(self) -> ssl.SSLSocket:
        """A TLS connection to an address that was checked, whatever the name resolves to a moment later."""
        address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0][4]
        ip = ipaddress.ip_address(address[0])
        public = getattr(ip, "ipv4_mapped", None) or ip
        if not public.is_global and not self._allow_private:
            raise ConfigError("jwks_url leads to a private address: set allow_private = true if so meant")  # fmt: skip
        plain = socket.create_connection((str(address[0]), self._port), timeout=_PATIENCE)
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise
