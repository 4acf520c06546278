"""``[audit]``: where the trail is kept, who can check and read it, and where its checkpoints go."""

from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from proxy.errors import ConfigError
from proxy.secret import Secret

_SHORTEST_SEGMENT = 4096


class ContentTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[audit.content]``: texts that are kept, encrypted to the public key in the file ``to``."""

    to: str
    request: bool = False
    reply: bool = False
    most_bytes: int = 256 * 1024


class ExportEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``audit.export``: a file, a syslog server (``udp://``, ``tcp://`` or ``tls://``), or a URL."""

    file: str | None = None
    syslog: str | None = None
    url: str | None = None
    token: Secret | None = None
    ca_bundle: str | None = None

    @property
    def label(self) -> str:
        """What logs call it."""
        return self.file or self.syslog or self.url or "nothing"


class AuditTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[audit]``.

    ``mode`` decides about calls whose intent cannot be recorded: ``required`` refuses them, ``best_effort`` sends
    and counts them. ``seal_to`` and ``sign_with`` are files, see ``outgate audit init``.
    """

    directory: str
    mode: Literal["required", "best_effort"] = "required"
    seal_to: str | None = None
    sign_with: str | None = None
    checkpoint_seconds: float = 60
    export: tuple[ExportEntry, ...] = ()
    segment_bytes: int = 64 * 1024 * 1024
    retention_days: int | None = None
    content: ContentTable | None = None


def check(table: AuditTable, where: str) -> None:
    """Refuse numbers and targets that cannot work; raises ``ConfigError`` naming key, value and remedy."""
    if not table.directory.strip():
        raise ConfigError(f"{where}.directory is empty: name a directory for the audit trail")
    _above(table.checkpoint_seconds, 0, f"{where}.checkpoint_seconds")
    _above(table.segment_bytes, _SHORTEST_SEGMENT - 1, f"{where}.segment_bytes")
    if table.retention_days is not None:
        _above(table.retention_days, 0, f"{where}.retention_days")
    if table.content is not None:
        _above(table.content.most_bytes, 0, f"{where}.content.most_bytes")
        if not (table.content.request or table.content.reply):
            raise ConfigError(
                f"{where}.content keeps nothing: write request = true or reply = true, or remove the table"
            )
    for number, entry in enumerate(table.export):
        _check_export(entry, f"{where}.export[{number}]")


def _above(value: float, limit: float, where: str) -> None:
    if not value > limit or value == float("inf"):
        raise ConfigError(f"{where} = {value!r}: write a number above {limit:g}")


def _check_export(entry: ExportEntry, where: str) -> None:
    targets = [name for name in ("file", "syslog", "url") if getattr(entry, name) is not None]
    if len(targets) != 1:
        raise ConfigError(
            f'{where} names {len(targets)} targets: write one of file = "/path", syslog = "host:port",'
            ' url = "https://…"'
        )
    if entry.syslog is not None:
        syslog_target(entry.syslog, f"{where}.syslog")
    elif entry.url is not None:
        _check_url(entry.url, entry.token is not None, f"{where}.url")
    if entry.token is not None and entry.url is None:
        raise ConfigError(f"{where}.token is sent to a url only: remove it")


def syslog_target(text: str, where: str) -> tuple[str, str, int]:
    """Transport, host and port of ``host:port`` (UDP), ``udp://``, ``tcp://`` or ``tls://host:port``."""
    try:
        parts = urlsplit(text if "://" in text else f"udp://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("udp", "tcp", "tls") or parts.path:
        raise ConfigError(
            f'{where} = {text!r}: write "host:port", "tcp://host:port" or "tls://host:port"'
        )
    return parts.scheme, host, port


def _check_url(url: str, with_token: bool, where: str) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where}: write https://host/path, without user name and password")
    if with_token and parts.scheme != "https":
        raise ConfigError(f"{where} = {url!r}: a token is sent over https only")
