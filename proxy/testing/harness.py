"""One loaded plugin and the calls a test makes of it; looks unasked at what every plugin must keep."""

import secrets
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from proxy import chain as hooks
from proxy import wire
from proxy.config import Config, PluginEntry
from proxy.convert import Given, convert
from proxy.deployment import Deployment
from proxy.frozen import FrozenDict
from proxy.model import Endpoint, Principal
from proxy.parts import Parts
from proxy.policy import Policy
from proxy.prices import Prices
from proxy.records import Record
from proxy.registry import Registry
from proxy.rules import PolicyTable
from proxy.secret import Secret
from proxy.steps import Chain, Running, Step
from proxy.store import Store, StoreTable
from proxy.testing import contract, replies
from proxy.testing.rehearsal import BODIES, Answering, rehearse
from proxy.testing.replies import Pieces
from proxy.testing.results import PluginFailed, Result
from proxy.testing.watching import watched
from proxy.texts import texts

_HOOKS = Chain.__struct_fields__
_REDACTING = PolicyTable(response={"*": "redact"})


class Harness(Struct, frozen=True):
    """One loaded plugin, for any number of calls; each raises ``PluginFailed`` when the plugin fails."""

    entry: PluginEntry
    parts: Parts
    headers: Mapping[str, str]
    checks: bool = True
    _policies: dict[str, Policy] = field(default_factory=dict)

    def given(
        self, *, caller: str = "tester", groups: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None,
        checks: bool | None = None, **entry: Any,
    ) -> "Harness":  # fmt: skip
        """This plugin under other circumstances.

        ``config`` is written as ``outgate.toml``, e.g. ``{"policy": {"request": {"kind": "redact"}}}``;
        ``entry`` is what else ``[[plugins]]`` takes: ``when``, ``mode``, …. ``checks=False`` leaves out what is
        looked at unasked, for a plugin whose hooks ask a server.
        """
        whole = convert(config or {}, Config, where="config")
        written = convert({"use": self.entry.use, **entry}, PluginEntry, where="entry")
        written = replace(written, name=self.entry.name, options=self.entry.options)
        loaded = _loaded(written, whole, Principal(caller, tuple(groups)), headers or {})
        return replace(loaded, checks=self.checks if checks is None else checks)

    def completions(self, **params: Any) -> Result:
        """Call ``POST /v1/completions``; model and prompt have defaults."""
        return self.call("completions", **params)

    def chat(self, **params: Any) -> Result:
        """Call ``POST /v1/chat/completions``; model and messages have defaults."""
        return self.call("chat", **params)

    def respond(self, body: Any, endpoint: Endpoint = "completions", **params: Any) -> Result:
        """Call an endpoint whose upstream answers with ``body``."""
        return self.call(endpoint, lambda _: replies.whole(body), **params)

    def stream(
        self, said: str | Iterable[Any] | Callable[[Any], str], pieces: Pieces | None = None,
        endpoint: Endpoint = "completions", **params: Any,
    ) -> Result:  # fmt: skip
        """Call an endpoint whose upstream streams ``said``: a text, chunks, or what a function makes of the body sent.

        ``pieces`` says how the text is cut (a number of characters, or several in turn), into single characters
        without it. A text is also tried whole and in other cuts: detectors must find the same in all of them.
        """
        if isinstance(said, str) and self.parts.policy.watches and self.checks:
            own = None if pieces is None else replies.cut(said, pieces)
            contract.every_cut(self._bare(self.parts.policy.table), said, endpoint, own)

        def answering(body: Any) -> replies.Answer:
            text = said(body) if callable(said) else said
            if not isinstance(text, str):
                return replies.streamed(list(text))
            cut = replies.cut(text, replies.single(text) if pieces is None else pieces)
            return replies.streamed(replies.text_chunks(endpoint, cut))

        return self.call(endpoint, answering, **{"stream": True, **params})

    def redact(self, text: str, pieces: Pieces | None = None) -> str:
        """What a reply with this text becomes where all that is found is redacted: in every cut the same.

        ``pieces`` is one more cut to try, as in ``stream``.
        """
        if not self.parts.policy.watches:
            raise PluginFailed(
                "this plugin has no detectors, so there is nothing to redact: use .stream(…).shown"
            )
        own = None if pieces is None else replies.cut(text, pieces)
        return contract.every_cut(self._bare(_REDACTING), text, own=own)

    def report(self) -> contract.Report:
        """Every surface, with what became of it and how long it took; ``print`` it. Asserts no time."""
        return self._walk(_HOOKS)

    def call(
        self, endpoint: Endpoint, answering: Answering | None = None, /, **params: Any
    ) -> Result:
        """Call any endpoint, up to the moment when the body would be sent."""
        if self.checks:
            key = repr(self.entry)
            contract.once(key, partial(self._walk, contract.LOOKING), self.entry)
            self._cut(key, {**BODIES.get(endpoint, {}), **params})
        return _called(self, endpoint, answering, params)

    def _walk(self, of: Iterable[str]) -> contract.Report:
        """Send every surface through a copy of the plugin; nothing, where it has none of these hooks."""
        steps, kept = self.parts.chain, {*of, "identify"}
        if not self.parts.policy.watches and not any(
            getattr(steps, hook) for hook in kept - {"identify"}
        ):
            return contract.Report(())
        call = partial(_called, _copied(self), of=kept)
        return contract.walked(call, replies=bool(steps.rewrite_response))

    def _bare(self, table: PolicyTable) -> Parts:
        """The parts with the detectors and this policy alone."""
        known, name = self._policies, repr(table)
        if table == self.parts.policy.table:
            known[name] = self.parts.policy
        if name not in known:
            known[name] = Policy(table, self.parts.policy.watches)
        chain = Chain(identify=(_known(Principal("tester")),))
        return replace(self.parts, policy=known[name], chain=chain)

    def _cut(self, key: Any, params: Mapping[str, Any]) -> None:
        """Try the texts of a call as streamed replies, each once."""
        if not self.parts.policy.watches:
            return
        for text in contract.short(t.value for t in texts(params) if not t.is_key):
            bare = self._bare(_REDACTING)
            contract.once((key, text), partial(contract.every_cut, bare, text), self.entry)


def _called(
    harness: Harness, endpoint: Endpoint, answering: Answering | None, params: Mapping[str, Any],
    of: Iterable[str] = _HOOKS,
) -> Result:  # fmt: skip
    """One call through those of the plugin's hooks, with everything it did wrong raised."""
    notes: list[tuple[str, str]] = []
    steps = watched(harness.parts.chain, notes, of)
    parts = replace(harness.parts, chain=steps)
    result = rehearse(parts, endpoint, params, harness.headers, answering)
    _judge(steps, result.record, notes)
    return result


def harness(plugin: Any, /, **options: Any) -> Harness:
    """A plugin and its options: a class, a module, or what an operator writes after ``use =``.

    Raises ``ConfigError`` exactly where the start would.
    """
    if isinstance(plugin, str):
        return _loaded(PluginEntry(use=plugin, options=options))
    # Under a name that ``use`` can say, also if it was defined inside a test.
    module = types.ModuleType(f"outgate_plugin_{id(plugin)}")
    vars(module)["plugin"] = plugin
    sys.modules[module.__name__] = module
    name = getattr(plugin, "__name__", "")
    return _loaded(PluginEntry(use=f"{module.__name__}:plugin", name=name, options=options))


def _known(caller: Principal) -> Step:
    return Step(plugin="harness", hook="identify", function=lambda: caller, arguments=())


def _loaded(
    entry: PluginEntry,
    config: Config = Config(),  # noqa: B008 - frozen
    caller: Principal = Principal("tester"),  # noqa: B008 - frozen
    headers: Mapping[str, str] = FrozenDict(),
    *,
    started: bool = False,
) -> Harness:
    prices = Prices(config.prices)
    store = partial(_store, config, started=started)
    deployment = Deployment()
    deployment.complete("test", wire.PASSED)
    given: dict[type, Given] = {
        Store: store, Prices: lambda: prices, Deployment: lambda: deployment,
    }  # fmt: skip
    registry = Registry([entry], deadline=config.limits.hook_seconds, given=given)
    steps = replace(registry.chain, identify=registry.chain.identify or (_known(caller),))
    parts = Parts(
        config=config, digest="test", chain=steps, providers=registry.providers,
        upstreams={}, policy=Policy(config.policy, registry.watches),
    )  # fmt: skip
    return Harness(entry, parts, headers)


def _copied(harness: Harness) -> Harness:
    """The same plugin once more, with state of its own, before which every form of a call comes."""
    config = replace(
        harness.parts.config,
        parameters=replace(harness.parts.config.parameters, unscannable="allow"),
        store=None,
    )
    copy = _loaded(harness.entry, config, started=True)
    steps = replace(copy.parts.chain, identify=(_known(Principal("tester")),))
    return replace(copy, parts=replace(copy.parts, chain=steps))


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Where stores of tests are, until the process ends."""
    return tempfile.TemporaryDirectory(prefix="outgate-test-")


def _store(config: Config, *, started: bool) -> Store:
    """The configured store, or a new one of the test's own."""
    name = Path(_folder().name, f"{secrets.token_hex(8)}.db")
    own = StoreTable(url=f"sqlite:///{name}", pepper=Secret(secrets.token_hex(32)))
    store = Store(config.store or own)
    if started:
        store.start()
    return store


def _judge(steps: Chain, record: Record, notes: list[tuple[str, str]]) -> None:
    """Let the sinks have the record, and raise for whatever went wrong inside the plugin."""
    told = hooks.tell(steps.log_exchange, record, Running())
    noted = dict(notes)
    faults = [
        noted.pop(v.hook, f"{v.hook} {v.detail}")
        for v in record.verdicts
        if v.verdict.endswith("error")
    ]
    for plugin_took in told.values():
        if not plugin_took:
            why = noted.pop("log_exchange", "")
            faults.append("log_exchange failed" + (f": {why}" if why else ""))
    faults += noted.values()
    if record.code == "plugin_failed" and not faults:
        faults = ["a detector failed, or the body it made cannot be sent"]
    if faults:
        raise PluginFailed(f"{'; '.join(faults)} (the log says why)")
