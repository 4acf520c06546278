"""Whom an upstream's TLS connection trusts and what it shows: configuration only, never the environment."""

import ssl
from collections.abc import Callable
from pathlib import Path

import certifi

from proxy.errors import ConfigError
from proxy.model import Upstream


def tls_context(upstream: Upstream) -> ssl.SSLContext:
    """How an upstream is verified: by its ``ca_bundle`` (file or folder), else by certifi's.

    Raises:
        ConfigError: a file cannot be read, or the client key is encrypted.

    """
    try:
        return context(upstream.ca_bundle, upstream.client_cert, upstream.client_key)
    except ConfigError as error:
        raise ConfigError(f"upstream {upstream.name!r}: {error}") from error


def context(
    ca_bundle: str | None, client_cert: str | None, client_key: str | None
) -> ssl.SSLContext:
    """How a server is verified, and what it is shown.

    Built here and not by a library's default, which would follow SSL_CERT_FILE and SSLKEYLOGFILE.
    """
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    _load("ca_bundle", lambda: _trust(found, ca_bundle or certifi.where()))
    if client_cert is not None:
        _load("client_cert", lambda: found.load_cert_chain(client_cert, client_key, _no_password))
    return found


def _trust(context: ssl.SSLContext, bundle: str) -> None:
    if Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)


def _no_password() -> str:
    # Without this OpenSSL would ask for the password at the terminal.
    raise ConfigError("the client key is encrypted")


def _load(key: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ConfigError) as error:
        raise ConfigError(f"{key} cannot be used: {_told(key, error)}") from error


def _told(key: str, error: OSError | ConfigError) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error.strerror if isinstance(error, OSError) else error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "client_key is the key of another certificate"
    if key == "client_cert":
        return "the file, or that of client_key, is not in PEM form, or has no certificate or no private key"
    return "the file is not in PEM form, or has no certificate"
