"""The dialect of Portkey's SDKs: its routing headers choose among what the operator listed, and nothing more."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy import Call, Deny, Failure, hookimpl

_TRACE = re.compile(r"[\x21-\x7e]{1,128}\Z")
_LONGEST_METADATA = 4096
_MOST_ENTRIES = 32
_ROUTING = frozenset({"provider", "virtual_key"})
_DUMMY_MODEL = "portkey-default"


@dataclass(frozen=True)
class Portkey:
    """Names a caller may send → upstreams of this configuration.

    ``providers`` maps ``x-portkey-provider``, ``virtual_keys`` maps ``x-portkey-virtual-key``, ``hosts`` maps
    ``x-portkey-custom-host``, ``configs`` maps the id in ``x-portkey-config``. ``default_model`` replaces the
    ``portkey-default`` that the SDKs send when the program names no model.
    """

    providers: dict[str, str] = field(default_factory=dict)
    virtual_keys: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)
    default_model: str | None = None

    @hookimpl
    def rewrite_request(self, call: Call) -> Call | None:
        """Answer with the headers those SDKs read, note the metadata, and replace the placeholder model."""
        sent = {
            name: value for name, value in call.headers.items() if name.startswith("x-portkey-")
        }
        if not sent:
            return None
        call = call.replace(reply_headers={**call.reply_headers, **self._answered(call, sent)})
        if metadata := _metadata(sent.get("x-portkey-metadata", "")):
            call = call.note(metadata=metadata)
        if call.model == _DUMMY_MODEL and self.default_model:
            call = call.with_body(model=self.default_model)
        return call

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse routing that the operator did not list, and the placeholder model when nothing replaces it."""
        chosen = self._chosen(call.headers)
        if isinstance(chosen, Deny):
            return chosen
        if call.model == _DUMMY_MODEL:
            return Deny(
                "No model was named: set model in the call.", code="invalid_request", param="model"
            )
        return None

    @hookimpl
    def choose_upstream(self, call: Call, failures: tuple[Failure, ...]) -> str | Deny | None:
        """The upstream that the headers name; after a failure the operator's routes decide."""
        return None if failures else self._chosen(call.headers)

    def _chosen(self, headers: Mapping[str, str]) -> str | Deny | None:
        wanted = _wanted(headers)
        if isinstance(wanted, Deny):
            return wanted
        tables = (
            ("config", self.configs),
            ("custom_host", self.hosts),
            ("virtual_key", self.virtual_keys),
            ("provider", self.providers),
        )
        for kind, table in tables:
            if name := wanted.get(kind):
                return table.get(name) or _unlisted(kind, table)
        return None

    def _answered(self, call: Call, sent: Mapping[str, str]) -> dict[str, str]:
        trace = sent.get("x-portkey-trace-id", "")
        provider = sent.get("x-portkey-provider", "")
        return {
            "x-portkey-trace-id": trace if _TRACE.match(trace) else call.id,
            "x-portkey-provider": provider if provider in self.providers else "outgate",
            "x-portkey-cache-status": "DISABLED",
            "x-portkey-retry-attempt-count": "0",
            "x-portkey-last-used-option-index": "0",
        }


def _wanted(headers: Mapping[str, str]) -> dict[str, str] | Deny:
    """What the headers ask for: kind → name; a config in JSON may only name a provider or a virtual key."""
    wanted = {
        "provider": headers.get("x-portkey-provider", ""),
        "virtual_key": headers.get("x-portkey-virtual-key", ""),
        "custom_host": headers.get("x-portkey-custom-host", "").rstrip("/"),
    }
    config = headers.get("x-portkey-config", "").strip()
    if not config.startswith("{"):
        return {**wanted, "config": config}
    settings = _object(config)
    if settings is None or not all(isinstance(value, str) for value in settings.values()):
        return Deny(
            "x-portkey-config is not a JSON object of texts.",
            code="invalid_config",
            param="x-portkey-config",
        )
    if unknown := sorted(set(settings) - _ROUTING):
        return Deny(
            f"x-portkey-config may only route here ({', '.join(sorted(_ROUTING))}); {unknown[0][:64]!r} is the"
            " operator's to set.",
            code="invalid_config",
            param="x-portkey-config",
        )
    return {**wanted, **settings}


def _unlisted(kind: str, table: Mapping[str, str]) -> Deny:
    listed = ", ".join(sorted(table)) if kind == "provider" else f"{len(table)} names"
    header = f"x-portkey-{kind.replace('_', '-')}"
    return Deny(
        f"The name in {header} is not one the operator of this gateway listed ({listed or 'none'}).",
        code="unknown_route",
        param=header,
    )


def _metadata(text: str) -> dict[str, str]:
    """The caller's own labels for the record; whatever is not a small object of texts is left out."""
    found = _object(text) if len(text) <= _LONGEST_METADATA else None
    return {
        key: value
        for key, value in list((found or {}).items())[:_MOST_ENTRIES]
        if isinstance(value, str)
    }


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
