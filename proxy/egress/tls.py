"""Whom an upstream's TLS connection trusts and what it shows: configuration only, never the environment."""

import ssl
from collections.abc import Callable
from pathlib import Path

import certifi

from proxy.errors import ConfigError
from proxy.model import Upstream


def tls_context(upstream: Upstream) -> ssl.SSLContext:
    """How an upstream is verified: by its ``ca_bundle`` (file or folder), else by certifi's.

    Built here and not by a library's default, which would follow SSL_CERT_FILE and SSLKEYLOGFILE.

    Raises:
        ConfigError: a file cannot be read, or the client key is encrypted.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(upstream, "ca_bundle", lambda: _trust(context, upstream.ca_bundle or certifi.where()))
    if upstream.client_cert is not None:
        _load(upstream, "client_cert", lambda: _show(context, upstream))
    return context


def _trust(context: ssl.SSLContext, bundle: str) -> None:
    if Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)


def _show(context: ssl.SSLContext, upstream: Upstream) -> None:
    context.load_cert_chain(upstream.client_cert or "", upstream.client_key, _no_password)


def _no_password() -> str:
    # Without this OpenSSL would ask for the password at the terminal.
    raise ConfigError("the client key is encrypted")


def _load(upstream: Upstream, key: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ConfigError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"upstream {upstream.name!r}: {key} cannot be used: {reason}") from error
