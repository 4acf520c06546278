"""One call through the real intake, chain, policy and relay, with an answer that is here already."""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from proxy import chain, denials, stream
from proxy.answering import Answering as Asking
from proxy.errors import ApiError
from proxy.exchange import Answer as Told
from proxy.exchange import Denied, Exchange, Outgoing
from proxy.intake import Intake
from proxy.jsonio import encode
from proxy.model import BODILESS, STREAMED, Call, Deny, Endpoint, Reply, Upstream
from proxy.parts import Parts
from proxy.records import Record
from proxy.relay import Relay
from proxy.steps import Running
from proxy.testing.replies import Answer, events
from proxy.testing.results import Result

#: What the upstream answers to the body that it was sent.
Answering: TypeAlias = Callable[[Any], Answer]
_NOWHERE: Final = Upstream(name="test", provider="test", base_url="http://127.0.0.1")
BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "completions": {"model": "test-model", "prompt": "Hello"},
    "chat": {"model": "test-model", "messages": [{"role": "user", "content": "Hello"}]},
    "embeddings": {"model": "test-model", "input": "Hello"},
}


def rehearse(
    parts: Parts,
    endpoint: Endpoint,
    params: Mapping[str, Any],
    headers: Mapping[str, str],
    answering: Answering | None = None,
) -> Result:
    """Take a call as far as to the moment when it would be sent, and with an answer all the way back."""
    records: list[Record] = []
    exchange = Exchange(endpoint, "127.0.0.1", Running(), lambda _, record: records.append(record))
    found: dict[str, Any] = {"denied": None, "body": None, "reply": None, "upstream": None}
    try:
        environ = _environ(endpoint, params, headers)
        call, data = Intake(parts).accept(environ, exchange, params.get("model"))
        if told := Asking(parts, Relay(parts)).answer(call, exchange):
            return _over(exchange, records, {**found, **_taken(call, told)}, dict(told.headers))
        named = chain.choose_upstream(parts.chain.choose_upstream, call, (), exchange.trail)
        if isinstance(named, Deny):
            raise Denied(named, exchange.trail.verdicts[-1].plugin)
        found |= {"upstream": named.upstream if named else None, "body": json.loads(data)}
        if answering:
            found |= _answered(parts, call, answering(found["body"]), exchange)
        return _over(exchange, records, found)
    except ApiError as error:
        found["refusal"] = _refused(parts, error, exchange)
        found["denied"] = Deny(error.message, error.code or error.type, error.param, error.status)
        return _over(exchange, records, found)


def _over(
    exchange: Exchange,
    records: list[Record],
    found: dict[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Result:
    """What became of the call, now that it is over."""
    exchange.finish("ok", 200)
    record = records[0]
    if record.outcome == "denied" and found["denied"] is None:
        # A stream that had begun: its caller has the status already, and sees where it ends.
        found["denied"] = Deny("The rest of the stream was withheld.", record.code or "denied")
    told = dict(exchange.signed([])) if headers is None else headers
    return Result(**found, headers=told, record=record)


def _answered(parts: Parts, call: Call, answer: Answer, exchange: Exchange) -> dict[str, Any]:
    """What the caller gets: the reply, and of a stream its events."""
    exchange.facts["upstream"] = _NOWHERE.name
    told = Relay(parts).answer(_NOWHERE, call, answer, exchange)  # type: ignore[arg-type]
    return _taken(call, told)


def _taken(call: Call, told: Told) -> dict[str, Any]:
    """What a caller reads of an answer."""
    data = b"".join(told.body)
    if isinstance(told.body, Outgoing):
        told.body.close()
    if not dict(told.headers)["content-type"].startswith("text/event-stream"):
        return {"reply": json.loads(data)}
    shown = tuple(events(data))
    reply = stream.assemble(call.endpoint, shown) if call.endpoint in STREAMED else None
    return {"reply": reply, "events": shown}


def _refused(parts: Parts, error: ApiError, exchange: Exchange) -> Reply:
    """The refusal as the caller is told of it."""
    told = (
        denials.refuse(parts.chain.rewrite_denial, error, exchange)
        if isinstance(error, Denied)
        else exchange.refuse(error)
    )
    return Reply(status=told.status, body=json.loads(b"".join(told.body)))


def _environ(
    endpoint: Endpoint, params: Mapping[str, Any], headers: Mapping[str, str]
) -> dict[str, Any]:
    body = b"" if endpoint in BODILESS else encode({**BODIES[endpoint], **params})
    sent = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in headers.items()}
    framing = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    return {**framing, "wsgi.input": io.BytesIO(body), **sent}
