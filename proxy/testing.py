"""For authors of plugins: one plugin behind the real intake, chain, policy and relay, without a network.

A whole test::

    def test_confidential_text_stays():
        assert harness(Confidential).completions(prompt="strictly confidential").denied
"""

import io
import json
import secrets
import sys
import tempfile
import types
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from proxy import chain, denials, wire
from proxy.answering import Answering
from proxy.config import Config, PluginEntry
from proxy.convert import Given, convert
from proxy.deployment import Deployment
from proxy.errors import ApiError
from proxy.exchange import Answer, Denied, Exchange, Outgoing
from proxy.frozen import FrozenDict
from proxy.intake import BODILESS, Intake
from proxy.jsonio import encode
from proxy.model import Deny, Endpoint, Principal, Reply, Upstream
from proxy.parts import Parts
from proxy.policy import Policy
from proxy.prices import Prices
from proxy.records import Record
from proxy.registry import Registry
from proxy.relay import Relay
from proxy.secret import Secret
from proxy.sse import DONE, EventReader
from proxy.steps import Running, Step
from proxy.store import Store, StoreTable

_NOWHERE: Final = Upstream(name="test", provider="test", base_url="http://127.0.0.1")
_BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "completions": {"model": "test-model", "prompt": "Hello"},
    "chat": {"model": "test-model", "messages": [{"role": "user", "content": "Hello"}]},
    "embeddings": {"model": "test-model", "input": "Hello"},
}


class PluginFailed(AssertionError):
    """The plugin raised, edited its input, or returned the wrong thing: never to be taken for its verdict."""


class Result(Struct, frozen=True):
    """What became of a call.

    ``denied`` is the refusal or None, ``body`` what the upstream gets (None: nothing), ``reply`` what the caller
    gets of the upstream's answer or the plugin's own (of a stream, its events), ``upstream`` the plugin's choice,
    ``headers`` those added to the reply,
    ``record`` what is logged, with ``record.verdicts`` and ``record.findings``, ``refusal`` how the caller is
    told of a refusal (status and body), or None.
    """

    denied: Deny | None
    body: Any
    reply: Any
    upstream: str | None
    headers: Mapping[str, str]
    record: Record
    refusal: Reply | None = None


class Harness(Struct, frozen=True):
    """One loaded plugin, for any number of calls; each raises ``PluginFailed`` when the plugin fails."""

    entry: PluginEntry
    parts: Parts
    headers: Mapping[str, str]

    def given(
        self, *, caller: str = "tester", groups: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None, **entry: Any,
    ) -> "Harness":  # fmt: skip
        """This plugin under other circumstances.

        ``config`` is written as ``outgate.toml``, e.g. ``{"policy": {"request": {"kind": "redact"}}}``;
        ``entry`` is what else ``[[plugins]]`` takes: ``when``, ``mode``, ….
        """
        whole = convert(config or {}, Config, where="config")
        written = convert({"use": self.entry.use, **entry}, PluginEntry, where="entry")
        written = replace(written, name=self.entry.name, options=self.entry.options)
        return _loaded(written, whole, Principal(caller, tuple(groups)), headers or {})

    def completions(self, **params: Any) -> Result:
        """Call ``POST /v1/completions``; model and prompt have defaults."""
        return self.call("completions", **params)

    def chat(self, **params: Any) -> Result:
        """Call ``POST /v1/chat/completions``; model and messages have defaults."""
        return self.call("chat", **params)

    def respond(self, body: Any, endpoint: Endpoint = "completions", **params: Any) -> Result:
        """Call an endpoint whose upstream answers with ``body``."""
        return self.call(endpoint, _Answer(encode(body)), **params)

    def call(self, endpoint: Endpoint, answer: "_Answer | None" = None, /, **params: Any) -> Result:
        """Call any endpoint, up to the moment when the body would be sent."""
        records: list[Record] = []
        exchange = Exchange(
            endpoint, "127.0.0.1", Running(), lambda _, record: records.append(record)
        )
        denied, sent, reply, chosen, refusal, told, observation = (None,) * 7
        try:
            choosers = self.parts.chain.choose_upstream
            environ = self._environ(endpoint, params)
            call, data = Intake(self.parts).accept(environ, exchange, params.get("model"))
            relay = Relay(self.parts)
            told = Answering(self.parts, relay).answer(call, exchange)
            if told is None:
                named = chain.choose_upstream(choosers, call, (), exchange.trail)
                if isinstance(named, Deny):
                    raise Denied(named, exchange.trail.verdicts[-1].plugin)
                chosen, sent = named.upstream if named else None, json.loads(data)
                if answer:
                    told = relay.answer(_NOWHERE, call, answer, exchange)  # type: ignore[arg-type]
            observation = exchange.observation
            reply = _taken(told) if told else None
            exchange.finish("ok", 200)
        except ApiError as error:
            refusal = self._refused(error, exchange)
            denied = Deny(error.message, error.code or error.type, error.param, error.status)
        _judge(self.parts, records[0], observation.faults if observation else [])
        headers = dict(told.headers if told and records[0].answered_by else exchange.signed([]))
        return Result(denied, sent, reply, chosen, headers, records[0], refusal)

    def _refused(self, error: ApiError, exchange: Exchange) -> Reply:
        """The refusal as the caller is told of it."""
        steps = self.parts.chain.rewrite_denial
        told = (
            denials.refuse(steps, error, exchange)
            if isinstance(error, Denied)
            else exchange.refuse(error)
        )
        return Reply(status=told.status, body=json.loads(b"".join(told.body)))

    def _environ(self, endpoint: Endpoint, params: Mapping[str, Any]) -> dict[str, Any]:
        body = b"" if endpoint in BODILESS else encode({**_BODIES[endpoint], **params})
        sent = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in self.headers.items()}
        framing = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
        return {**framing, "wsgi.input": io.BytesIO(body), **sent}


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


def _loaded(
    entry: PluginEntry,
    config: Config = Config(),  # noqa: B008 - frozen
    caller: Principal = Principal("tester"),  # noqa: B008 - frozen
    headers: Mapping[str, str] = FrozenDict(),
) -> Harness:
    prices = Prices(config.prices)
    deployment = Deployment()
    deployment.complete("test", wire.PASSED)
    given: dict[type, Given] = {
        Store: partial(_store, config), Prices: lambda: prices, Deployment: lambda: deployment,
    }  # fmt: skip
    registry = Registry([entry], deadline=config.limits.hook_seconds, given=given)
    known = Step(plugin="harness", hook="identify", function=lambda: caller, arguments=())
    steps = replace(registry.chain, identify=registry.chain.identify or (known,))
    parts = Parts(
        config=config, digest="test", chain=steps, providers=registry.providers,
        upstreams={}, policy=Policy(config.policy, registry.watches),
    )  # fmt: skip
    return Harness(entry, parts, headers)


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Where stores of tests are, until the process ends."""
    return tempfile.TemporaryDirectory(prefix="outgate-test-")


def _store(config: Config) -> Store:
    """The configured store, or a new one of the test's own."""
    name = Path(_folder().name, f"{secrets.token_hex(8)}.db")
    own = StoreTable(url=f"sqlite:///{name}", pepper=Secret(secrets.token_hex(32)))
    return Store(config.store or own)


class _Answer(Struct, frozen=True):
    """A complete answer that is here already."""

    data: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def read(self, _limit: int) -> bytes:
        return self.data


def _taken(answer: Answer) -> Any:
    """What a caller reads: the body, or the events of a stream."""
    data = b"".join(answer.body)
    if isinstance(answer.body, Outgoing):
        answer.body.close()
    if dict(answer.headers).get("content-type") != "text/event-stream":
        return json.loads(data)
    events = [event.data for event in EventReader(len(data)).feed(data)]
    return [json.loads(text) for text in events if text and text != DONE]


def _judge(parts: Parts, record: Record, observed: list[tuple[str, str]]) -> None:
    """Let the sinks have the record, and raise for whatever went wrong inside the plugin."""
    faults = [f"{v.hook} {v.detail}" for v in record.verdicts if v.verdict.endswith("error")]
    faults += [f"observe_response {fault}" for _, fault in observed]
    told = chain.tell(parts.chain.log_exchange, record, Running())
    faults += ["log_exchange failed" for taken in told.values() if not taken]
    if record.code == "plugin_failed" and not faults:
        faults = ["a detector failed, or the body it made cannot be sent"]
    if faults:
        raise PluginFailed(f"{'; '.join(faults)} (the log says why)")
