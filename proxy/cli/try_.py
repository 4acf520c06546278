"""``outgate try``: what would become of a text, plugin by plugin, without a network and without a trace."""

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
from msgspec import Struct
from msgspec.structs import replace

from proxy.app import assemble
from proxy.cli.options import config_option
from proxy.cli.output import show_json
from proxy.cli.showing import section
from proxy.config import load
from proxy.jsonio import encode
from proxy.model import STREAMED, Call, Endpoint, Principal
from proxy.parts import Parts
from proxy.registry import Plugin, Registry
from proxy.routes import Routes
from proxy.steps import TRACING, Step, trace
from proxy.testing import replies
from proxy.testing.rehearsal import rehearse
from proxy.testing.results import Result

_PIECE: Final = 4  # characters: words are cut, as a model's tokens cut them
_ENDPOINTS: Final = ("completions", "chat", "embeddings")
#: Hooks that keep something, so that a trial leaves them alone.
_KEEPING: Final = ("admit", "log_exchange")
_START: Final = ("init_app", "providers")


class Trial(Struct, frozen=True, kw_only=True):
    """A text, who says it, and how."""

    text: str
    endpoint: Endpoint
    model: str
    caller: str
    groups: tuple[str, ...]
    stream: bool

    def body(self, text: str) -> dict[str, Any]:
        """The body of a call with this text."""
        field: Any = {"prompt": text} if self.endpoint == "completions" else {"input": text}
        if self.endpoint == "chat":
            field = {"messages": [{"role": "user", "content": text}]}
        return {"model": self.model, **field, **({"stream": True} if self.stream else {})}

    def answer(self, text: str) -> replies.Answer:
        """A reply with this text."""
        if not self.stream:
            return replies.whole(replies.text_reply(self.endpoint, text, self.model))
        pieces = replies.cut(text, _PIECE)
        return replies.streamed(replies.text_chunks(self.endpoint, pieces, self.model))


@click.command("try")
@click.argument("text")
@config_option
@click.option("--model", default="test-model", show_default=True, help="The model asked for.")
@click.option("--as", "caller", default="tester", show_default=True, help="Who calls, by name.")
@click.option("--group", "groups", multiple=True, help="A group of the caller; may be repeated.")
@click.option(
    "--endpoint", type=click.Choice(_ENDPOINTS), default="completions", show_default=True,
    help="What is called.",
)  # fmt: skip
@click.option("--stream", is_flag=True, help="Ask for a stream, which comes in pieces.")
@click.option("--json", "as_json", is_flag=True, help="For programs: everything, as JSON.")
def try_(path: str, as_json: bool, **given: Any) -> None:
    """Show what each plugin makes of TEXT, what would leave, and what the caller would be shown.

    Nothing is sent, reserved or logged: the upstream is thought to say back what it is sent. A text of "-" is
    read from standard input. With OUTGATE_TRACE=1 every hook leaves a line on standard error.

    \b
    Example:
      outgate try "Is TICKET-1234 done?" --as alice --model gpt-4o-mini --stream
    """
    if given["text"] == "-":
        given["text"] = sys.stdin.read()
    trial = Trial(**given)
    if trial.stream and trial.endpoint not in STREAMED:
        raise click.UsageError(f"{trial.endpoint} answers in one piece: leave out --stream")
    _trace()
    told = _told(trial, *assemble(load(path)))
    if as_json:
        show_json(told)
    else:
        _print(told)


def _trace() -> None:
    """Have the lines of OUTGATE_TRACE appear, which a server's log shows by itself."""
    if TRACING and not trace.handlers:
        trace.addHandler(logging.StreamHandler())
        trace.setLevel(logging.INFO)


def _told(trial: Trial, registry: Registry, parts: Parts) -> dict[str, Any]:
    """Everything about the trial, as JSON says it."""
    caller = Principal(trial.caller, trial.groups)
    known = Step(plugin="try", hook="identify", function=lambda: caller, arguments=())
    steps = replace(parts.chain, identify=(known,), admit=(), log_exchange=())
    parts = replace(parts, chain=steps)
    speaks = trial.endpoint in STREAMED
    echo = (lambda body: trial.answer(replies.asked(body))) if speaks else None
    result = rehearse(parts, trial.endpoint, trial.body(trial.text), {}, echo)
    back = result
    if result.left is None and speaks:
        # Refused on its way out; what a reply with this text would be is asked all the same.
        back = rehearse(
            parts, trial.endpoint, trial.body(""), {}, lambda _: trial.answer(trial.text)
        )
    results = [result] if back is result else [result, back]
    return {
        "caller": trial.caller,
        "groups": list(trial.groups),
        "endpoint": trial.endpoint,
        "model": trial.model,
        "plugins": list(_verdicts(registry, result)),
        "findings": [_finding(f) for r in results for f in r.record.findings],
        "refused": _refusal(result) if result.denied else None,
        "upstream": _upstream(parts, trial, result, caller) if result.left is not None else None,
        "left": result.left,
        "shown": back.shown if speaks and back.reply is not None else None,
        "withheld": back.denied.message if back is not result and back.denied else None,
    }


def _verdicts(registry: Registry, result: Result) -> Iterator[dict[str, Any]]:
    for plugin in registry.plugins:
        for hook in plugin.hooks:
            verdict, why = _verdict(plugin, hook, result)
            if verdict:
                label = plugin.entry.label
                yield {"plugin": label, "hook": hook, "verdict": verdict, "why": why}


def _verdict(plugin: Plugin, hook: str, result: Result) -> tuple[str, str]:
    """What a plugin's hook said, and why; nothing for what has no say in calls."""
    label, record = plugin.entry.label, result.record
    if hook in _START or (hook == "rewrite_denial" and result.denied is None):
        return "", ""
    if hook == "identify":
        return "not asked", "the caller is named by --as"
    if hook in _KEEPING:
        return "not asked", "it would keep something of this call"
    noted = next((v for v in record.verdicts if (v.plugin, v.hook) == (label, hook)), None)
    if noted is not None:
        final = noted.verdict == "deny" and record.denied_by == label and result.denied
        return noted.verdict, (final.message if final else noted.detail) or ""
    if hook == "detectors":
        found = sorted({f"{f.kind} {f.action}" for f in record.findings if f.plugin == label})
        if found or record.denied_by in (None, "policy"):
            return ("found", ", ".join(found)) if found else ("nothing found", "")
    if result.left is None:
        return "not asked", f"refused before, by {record.denied_by or 'the gateway'}"
    return "not asked", "it does not concern this call"


def _finding(finding: Any) -> dict[str, str]:
    return {name: getattr(finding, name) for name in ("kind", "place", "plugin", "action")}


def _refusal(result: Result) -> dict[str, Any]:
    denied, refusal = result.denied, result.refusal
    return {
        "status": refusal.status if refusal else 200,
        "code": denied.code if denied else None,
        "message": denied.message if denied else None,
        "by": result.record.denied_by,
    }


def _upstream(parts: Parts, trial: Trial, result: Result, caller: Principal) -> str | None:
    """Where the call would go: where a plugin says, or the first route that fits."""
    call = Call(
        id="", endpoint=trial.endpoint, body=result.left, principal=caller,
        model=result.left.get("model"),
    )  # fmt: skip
    if result.upstream:
        return result.upstream
    choice = Routes(parts.config.routes).choose(call, ())
    return choice.upstream if choice else None


def _print(told: Mapping[str, Any]) -> None:
    groups = f" of {', '.join(told['groups'])}" if told["groups"] else ""
    click.echo(f"{told['endpoint']}, model {told['model']}, as {told['caller']}{groups}\n")
    rows = [tuple(row.values()) for row in told["plugins"]]
    section("Plugins, in order", [("plugin", "hook", "verdict", "why"), *rows])
    found = [tuple(row.values()) for row in told["findings"]]
    section("Findings", [("kind", "place", "plugin", "action"), *found])
    if told["refused"] is not None:
        refused = told["refused"]
        click.secho(f"Refused by {refused['by'] or 'the gateway'}", bold=True)
        click.echo(f"  {refused['status']} {refused['code']}: {refused['message']}\n")
    if told["left"] is not None:
        where = told["upstream"] or "no upstream: no route fits"
        click.secho(f"What would leave, to {where}", bold=True)
        click.echo(f"  {encode(told['left']).decode()}\n")
    if told["shown"] is not None or told["withheld"]:
        said = "what it was sent" if told["left"] is not None else "this text"
        click.secho(f"What the caller would be shown, if the upstream said {said}", bold=True)
        click.echo(f"  {told['shown'] if told['withheld'] is None else told['withheld']}")
