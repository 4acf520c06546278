"""The dialect of Portkey's SDKs: its routing headers choose among what the operator listed, and nothing more."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy import Call, ConfigError, Denial, Deny, Failure, Reply, hookimpl

_TOKEN = re.compile(r"[\x21-\x7e]{1,128}\Z")
_LONGEST_LABEL = 128
_MOST_LABELS = 32
_ROUTING = frozenset({"provider", "virtual_key"})
#: Portkey's API reference, "Error codes".
_GUARDRAILS_FAILED = 446
_DUMMY_MODEL = "portkey-default"


@dataclass(frozen=True)
class Portkey:
    """Names a caller may send → upstreams of this configuration.

    ``providers`` maps ``x-portkey-provider``, ``virtual_keys`` maps ``x-portkey-virtual-key``, ``hosts`` maps
    ``x-portkey-custom-host``, ``configs`` maps the id in ``x-portkey-config``. Every name that is sent must be
    listed; of several the most particular decides: config, then host, virtual key, provider.
    ``default_model`` replaces the ``portkey-default`` that the SDKs send when the program names no model.
    With ``hook_results``, a caller of this dialect is told of a refusal by policy as Portkey tells it: status
    446, with the guardrails that failed and their checks; kinds and counts, never what was found.
    """

    providers: dict[str, str] = field(default_factory=dict)
    virtual_keys: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)
    default_model: str | None = None
    hook_results: bool = True
    _tables: dict[str, dict[str, str]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """A name that no header can carry is a mistake."""
        hosts = {name.rstrip("/"): upstream for name, upstream in self.hosts.items()}
        self._tables["config"] = self.configs
        self._tables["custom-host"] = hosts
        self._tables["virtual-key"] = self.virtual_keys
        self._tables["provider"] = self.providers
        for name in (name for table in self._tables.values() for name in table):
            if not _TOKEN.match(name):
                raise ConfigError(
                    f"{name!r} can never be sent: a name is 1 to 128 printable ASCII characters"
                )

    @hookimpl
    def rewrite_request(self, call: Call) -> Call | None:
        """Answer with the headers those SDKs read, note the labels, and replace the placeholder model."""
        sent = _sent(call)
        if not sent:
            return None
        trace = sent.get("x-portkey-trace-id", "")
        labels = {
            "trace_id": trace if _TOKEN.match(trace) else "",
            "metadata": _metadata(sent.get("x-portkey-metadata", "")),
        }
        call = call.note(**{name: label for name, label in labels.items() if label})
        call = call.replace(reply_headers={**call.reply_headers, **self._answered(call, sent)})
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
    def choose_upstream(self, call: Call, failures: tuple[Failure, ...]) -> str | None:
        """The upstream that the headers name; after a failure the operator's routes decide."""
        chosen = None if failures else self._chosen(call.headers)
        return chosen if isinstance(chosen, str) else None

    @hookimpl
    def rewrite_denial(self, call: Call, denial: Denial, reply: Reply) -> Reply | None:
        """Tell of a refusal by policy as Portkey's guardrails do, to a caller who speaks that dialect."""
        failed = denial.deny.code == "content_policy_violation"
        if not (self.hook_results and failed and _sent(call)):
            return None
        guardrails = _guardrails(denial)
        return reply.replace(
            status=_GUARDRAILS_FAILED,
            body={
                "error": {**reply.body["error"], "type": "hooks_failed"},
                "hook_results": {
                    "before_request_hooks": [] if denial.answered else guardrails,
                    "after_request_hooks": guardrails if denial.answered else [],
                },
            },
        )

    def _chosen(self, headers: Mapping[str, str]) -> str | Deny | None:
        wanted = _wanted(headers)
        if isinstance(wanted, Deny):
            return wanted
        named = {kind: name for kind in self._tables if (name := wanted.get(kind))}
        for kind, name in named.items():
            if name not in self._tables[kind]:
                return _unlisted(kind, self._tables[kind])
        return next((self._tables[kind][name] for kind, name in named.items()), None)

    def _answered(self, call: Call, sent: Mapping[str, str]) -> dict[str, str]:
        provider = sent.get("x-portkey-provider", "")
        return {
            "x-portkey-trace-id": call.notes.get("trace_id", call.id),
            "x-portkey-provider": provider if provider in self.providers else "outgate",
            "x-portkey-cache-status": "DISABLED",
            "x-portkey-retry-attempt-count": "0",
            "x-portkey-last-used-option-index": "0",
        }


def _sent(call: Call) -> dict[str, str]:
    """The headers of this dialect, by which a caller shows that it speaks it."""
    return {name: value for name, value in call.headers.items() if name.startswith("x-portkey-")}


def _guardrails(denial: Denial) -> list[dict[str, Any]]:
    """One guardrail for each plugin that found something to deny, one check for each kind."""
    counts: dict[str, Counter[str]] = {denial.by: Counter()}
    for finding in denial.findings:
        if finding.action == "deny":
            counts.setdefault(finding.plugin, Counter())[finding.kind] += 1
    return [
        {
            "id": plugin,
            "type": "guardrail",
            "verdict": False,
            "deny": True,
            "async": False,
            "transformed": False,
            "checks": [
                {"id": kind, "verdict": False, "data": {"findings": count}, "error": None}
                for kind, count in sorted(kinds.items())
            ],
            "feedback": None,
        }
        for plugin, kinds in counts.items()
    ]


def _wanted(headers: Mapping[str, str]) -> dict[str, str] | Deny:
    """What the headers ask for: kind → name; a config in JSON may only name a provider or a virtual key."""
    wanted = {
        "provider": headers.get("x-portkey-provider", ""),
        "virtual-key": headers.get("x-portkey-virtual-key", ""),
        "custom-host": headers.get("x-portkey-custom-host", "").rstrip("/"),
    }
    config = headers.get("x-portkey-config", "").strip()
    if not config.startswith("{"):
        return {**wanted, "config": config}
    settings = _object(config)
    if settings is None:
        return _bad_config("is neither an id nor a JSON object; send one of them")
    if unknown := sorted(set(settings) - _ROUTING):
        return _bad_config(
            f"may only hold {' or '.join(sorted(_ROUTING))}: leave out {unknown[0][:64]!r}, which is the operator's"
            " to set"
        )
    if not all(isinstance(value, str) for value in settings.values()):
        return _bad_config("holds a value that is no text; send a name")
    return {**wanted, **{key.replace("_", "-"): name for key, name in settings.items()}}


def _bad_config(what: str) -> Deny:
    return Deny(f"x-portkey-config {what}.", code="invalid_config", param="x-portkey-config")


def _unlisted(kind: str, table: Mapping[str, str]) -> Deny:
    """Names of providers are no secret; the others may be, so they are not listed to a stranger to them."""
    known = f" Listed: {', '.join(sorted(table)) or 'none'}." if kind == "provider" else ""
    header = f"x-portkey-{kind}"
    return Deny(
        f"The name in {header} is not one the operator of this gateway listed: leave the header out, or ask for it"
        f" to be added.{known}",
        code="unknown_route",
        param=header,
    )


def _metadata(text: str) -> dict[str, str]:
    """The caller's own labels for the record, cut to a sane size; whatever is no text is left out."""
    labels = [
        (key, value) for key, value in (_object(text) or {}).items() if isinstance(value, str)
    ]
    return {key[:_LONGEST_LABEL]: value[:_LONGEST_LABEL] for key, value in labels[:_MOST_LABELS]}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
