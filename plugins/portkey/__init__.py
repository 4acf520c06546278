"""The dialect of Portkey's SDKs: its headers and configs choose among what the operator listed, and nothing more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct, structs

from plugins.portkey import guardrails, headers
from plugins.portkey.keys import Refused
from plugins.portkey.names import Names, unlisted_config
from plugins.portkey.plan import Leaf, Node, leaves, plan_of, read
from proxy import (
    Call,
    Choice,
    ConfigError,
    Denial,
    Deny,
    Failure,
    Reply,
    Target,
    Way,
    hookimpl,
    next_choice,
    unsendable,
)

_DUMMY_MODEL: Final = "portkey-default"
_BODILESS: Final = ("models", "model")
#: What an answer says that came without a config of the caller's.
_WHOLE: Final = "config"


class _Plan(Struct, frozen=True):
    """What the headers ask for: a config, an upstream, or nothing. ``sent`` are the names in the headers."""

    sent: Mapping[str, str]
    node: Node | None = None
    upstream: str | None = None


@dataclass(frozen=True)
class Portkey:
    """Names a caller may send → upstreams of this configuration.

    ``providers`` maps ``x-portkey-provider``, ``virtual_keys`` maps ``x-portkey-virtual-key``, ``hosts`` maps
    ``x-portkey-custom-host``, ``configs`` maps the id in ``x-portkey-config`` to an upstream or to a config, which
    may name what the other tables hold. Every name that is sent must be listed; of several the most particular
    decides: config, then host, virtual key, provider. A config is followed to its end; after a failure of an
    upstream that was only named, the operator's routes decide.
    ``default_model`` replaces the ``portkey-default`` that the SDKs send when the program names no model.
    With ``hook_results``, a caller of this dialect is told of a refusal by policy as Portkey tells it: status
    446, with the guardrails that failed and their checks; kinds and counts, never what was found.
    """

    providers: dict[str, str] = field(default_factory=dict)
    virtual_keys: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str | dict[str, Any]] = field(default_factory=dict)
    default_model: str | None = None
    hook_results: bool = True
    _names: Names = field(init=False, repr=False)
    _nodes: dict[str, Node] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """A name that no header can carry is a mistake, and so is a config that could not be followed."""
        hosts = {name.rstrip("/"): upstream for name, upstream in self.hosts.items()}
        tables = {
            "provider": self.providers,
            "virtual-key": self.virtual_keys,
            "custom-host": hosts,
        }
        for name in (*self.providers, *self.virtual_keys, *hosts, *self.configs):
            if not headers.is_name(name):
                raise ConfigError(
                    f"{name!r} can never be sent: a name is 1 to 128 printable ASCII characters"
                )
        object.__setattr__(self, "_names", Names(tables))
        for name, config in self.configs.items():
            if not isinstance(config, str):
                self._nodes[name] = self._listed(name, config)

    def _listed(self, name: str, config: Mapping[str, Any]) -> Node:
        try:
            node = plan_of(config)
            self._names.check_all(node, {})
        except Refused as refused:
            raise ConfigError(f"configs.{name}: {refused.message}") from None
        return node

    @hookimpl
    def rewrite_request(self, call: Call) -> Call | None:
        """Answer with the headers those SDKs read, note the labels, and put the model in its plain form."""
        sent = headers.sent(call)
        if not sent:
            return None
        notes = {"trace_id": headers.trace_of(sent), "metadata": headers.labels(sent)}
        call = call.note(**{name: label for name, label in notes.items() if label})
        call = call.replace(reply_headers={**call.reply_headers, **_answered(call)})
        slug, model = self._names.split(call.model)
        if slug and call.endpoint not in _BODILESS:
            return call.note(portkey_provider=slug).with_body(model=model)
        if call.model == _DUMMY_MODEL and (default := self._default(call)):
            call = call.with_body(model=default)
        return call

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse routing that the operator did not list, and the placeholder model when nothing replaces it."""
        try:
            plan = self._plan(call)
            if plan.node is not None:
                self._names.check_all(plan.node, plan.sent)
                _check_bodies(plan.node, call)
        except Refused as refused:
            return _deny(refused)
        if call.model == _DUMMY_MODEL:
            return Deny(
                "No model was named: set model in the call.", code="invalid_request", param="model"
            )
        return None

    @hookimpl
    def choose_upstream(self, call: Call, failures: tuple[Failure, ...]) -> Choice | Deny | None:
        """The next try that the config asks for, or the upstream that a header names."""
        try:
            plan = self._plan(call)
            way = self._way(plan, call)
        except Refused as refused:
            return _deny(refused)
        if way is None or (failures and plan.node is None):
            return None
        choice = next_choice(way, call.id, failures)
        if choice is None:
            # A name that was tried already ends the tries: nobody is asked whom the config does not name.
            return Choice(upstream=failures[-1].upstream)
        return _told(choice, call, failures, follows=plan.node is not None)

    @hookimpl
    def rewrite_denial(self, call: Call, denial: Denial, reply: Reply) -> Reply | None:
        """Tell of a refusal by policy as Portkey's guardrails do, to a caller who speaks that dialect."""
        failed = denial.deny.code == "content_policy_violation"
        if not (self.hook_results and failed and headers.sent(call)):
            return None
        return guardrails.told(denial, reply)

    def _plan(self, call: Call) -> _Plan:
        """What is asked for; raises ``Refused``."""
        sent = headers.named(call.headers)
        self._names.check(sent)
        if slug := call.notes.get("portkey_provider"):
            sent = {"provider": slug}
        config = call.headers.get("x-portkey-config", "").strip()
        if config.startswith("{"):
            node: Node | None = read(config)
        elif config and config not in self.configs:
            raise unlisted_config(self.configs)
        else:
            node = self._nodes.get(config)
            if config and node is None:
                return _Plan(sent, upstream=str(self.configs[config]))
        if isinstance(node, Leaf) and node.is_silent:
            node = None
        return _Plan(sent, node, None if node else self._names.upstream(sent))

    def _way(self, plan: _Plan, call: Call) -> Way | None:
        if plan.node is not None:
            return self._names.way(plan.node, plan.sent, headers.facts(call))
        if plan.upstream is None:
            return None
        told = self._names.told(plan.upstream, _WHOLE, plan.sent.get("provider"))
        return Target(plan.upstream, reply_headers=told)

    def _default(self, call: Call) -> str | None:
        """The model for a call that names none: of the target it goes to first, or the operator's."""
        try:
            way = self._way(self._plan(call), call)
        except Refused:  # which the guard will say
            return None
        first = next_choice(way, call.id, ()) if way is not None else None
        model = first.body.get("model") if first is not None else None
        return model if isinstance(model, str) else self.default_model


def _check_bodies(node: Node, call: Call) -> None:
    """Raise ``Refused`` where no body could be sent that has the parameters of a target."""
    for leaf in leaves(node) if call.endpoint not in _BODILESS else ():
        changed = leaf.target.body
        if changed and (fault := unsendable(call.endpoint, {**call.body, **changed})):
            raise Refused(f"{leaf.path}.override_params: {fault}")


def _answered(call: Call) -> dict[str, str]:
    """What those SDKs read; an upstream that a config or a header named adds where its answer comes from."""
    return {
        "x-portkey-trace-id": call.notes.get("trace_id", call.id),
        "x-portkey-provider": "outgate",
        "x-portkey-cache-status": "DISABLED",
        "x-portkey-retry-attempt-count": "0",
        "x-portkey-last-used-option-index": _WHOLE,
    }


def _told(choice: Choice, call: Call, failures: tuple[Failure, ...], *, follows: bool) -> Choice:
    """``choice`` as it answers: how often its target was tried before, and nothing about a body it has not."""
    tried = [failure for failure in failures if failure.target == choice.target]
    count = sum(1 for failure in tried if failure.kind != "circuit_open")
    return structs.replace(
        choice,
        # Without a target it counts for every route to that upstream.
        target=choice.target if follows else "",
        timeout=choice.timeout or headers.timeout_of(call.headers),
        body={} if call.endpoint in _BODILESS else choice.body,
        from_caller=call.headers.get("x-portkey-config", "").lstrip().startswith("{"),
        reply_headers={**choice.reply_headers, "x-portkey-retry-attempt-count": str(count)},
    )


def _deny(refused: Refused) -> Deny:
    shown = refused.message
    if refused.code == "invalid_config":
        shown = f"x-portkey-config: {shown}"
    return Deny(shown, code=refused.code, param=refused.param)
