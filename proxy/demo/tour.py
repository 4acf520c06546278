"""``outgate demo``: a gateway, an upstream and three calls, with everything that happened to each."""

import contextlib
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final, cast

import click
from msgspec import Struct

from proxy.demo.client import Client, get_json
from proxy.demo.output import Lines
from proxy.errors import ConfigError

CONFIG: Final = "demo.toml"
_UPSTREAM_URL: Final = "http://127.0.0.1:9000/v1"
_OPENAI_URL: Final = "https://api.openai.com/v1"
_PATIENCE: Final = 20.0


class Target(Struct, frozen=True):
    """Whom the calls of the demo go to; ``bundled`` is the demo's own upstream."""

    url: str
    key: str
    model: str
    chat: bool = False
    bundled: bool = False


class Call(Struct, frozen=True):
    """One call of the tour."""

    title: str
    prompt: str
    stream: bool = False


CALLS: Final = (
    Call("A completion", "The old harbour was quiet until"),
    Call("A streamed completion: the tokens appear as they come", "Once upon a time", stream=True),
    Call("A call that a guardrail refuses", "Write a reference for our colleague E-204518."),
)


def run(*, upstream: str | None, model: str | None, bind: tuple[str, int], once: bool) -> int:
    """Show the three calls; unless ``once``, serve on until Ctrl-C. Returns the exit status."""
    with contextlib.ExitStack() as stack:
        target = _target(stack, upstream, model)
        key = f"og-{secrets.token_urlsafe(32)}"
        base = f"http://{bind[0]}:{_free(bind)}"
        lines = stack.enter_context(_gateway(target, key, base))
        client = Client(base, key)
        failures = [call.title for call in CALLS if not _show(call, client, target, lines)]
        if failures:
            click.secho(f"\nNot as expected: {'; '.join(failures)}", fg="red", err=True)
            return 1
        if not once:
            _invite(base, key, target)
            _serve_on(lines)
    return 0


def _target(stack: contextlib.ExitStack, upstream: str | None, model: str | None) -> Target:
    key = os.environ.get("OPENAI_API_KEY", "")
    if upstream is not None:
        name = model or _first_model(upstream, key)
        return Target(upstream.rstrip("/"), key or "no-key-was-given", name)
    if key:
        click.echo(
            "OPENAI_API_KEY is set: the calls go to OpenAI, which charges a few tokens for them."
        )
        return Target(_OPENAI_URL, key, model or "gpt-4o-mini", chat=True)
    port = _free(("127.0.0.1", 9000))
    key = f"sk-demo-{secrets.token_hex(8)}"
    command = ["demo-upstream", "--bind", f"127.0.0.1:{port}", "--api-key", key]
    stack.enter_context(_process(command, {}))
    _await_port(port)
    return Target(f"http://127.0.0.1:{port}/v1", key, model or "demo-instruct", bundled=True)


def _first_model(upstream: str, key: str) -> str:
    try:
        return str(get_json(f"{upstream.rstrip('/')}/models", key)["data"][0]["id"])
    except (OSError, LookupError, TypeError, ValueError):
        raise ConfigError(f"{upstream} does not list its models: name one with --model") from None


@contextlib.contextmanager
def _gateway(target: Target, key: str, base: str) -> Iterator[Lines]:
    """The gateway under gunicorn with ``demo.toml``; yields the lines it prints."""
    with tempfile.TemporaryDirectory(prefix="outgate-demo-") as folder:
        path = Path(folder, CONFIG)
        path.write_text(configuration(target), "utf-8")
        command = ["serve", "--config", str(path), "--bind", base.removeprefix("http://")]
        environment = {
            "DEMO_KEY": key,
            "DEMO_UPSTREAM_KEY": target.key,
            "OUTGATE_DRAIN_SECONDS": "4",
        }
        with _process(command, environment, stdout=subprocess.PIPE) as server:
            lines = Lines(cast(IO[bytes], server.stdout))
            _await_ready(base, server)
            click.echo(f"gateway   {base}/v1   (configured by examples/{CONFIG})")
            click.echo(f"upstream  {target.url}{'   (bundled)' if target.bundled else ''}")
            yield lines


def configuration(target: Target) -> str:
    """``demo.toml`` for a target."""
    text = files("proxy.demo").joinpath(CONFIG).read_text("utf-8")
    text = text.replace(_UPSTREAM_URL, target.url)
    if target.url.startswith("https:"):
        text = text.replace("allow_private = true", "allow_private = false")
    return text


@contextlib.contextmanager
def _process(
    arguments: list[str], environment: dict[str, str], stdout: int | None = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "proxy.cli", *arguments]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and commands
        command, env={**os.environ, **environment}, stdout=stdout, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _show(call: Call, client: Client, target: Target, lines: Lines) -> bool:
    """Make one call and tell what came of it; whether it went as the tour says it would."""
    click.secho(f"\n{call.title}", bold=True)
    click.echo(f"  prompt    {call.prompt!r}")
    click.echo("  answer    ", nl=False)
    path, body = _request(call, target)
    status, identity = client.send(path, body, lambda text: click.echo(text, nl=False))
    click.echo(f"\n  status    {status}")
    click.echo(f"  upstream  {_received(call, target, identity)}")
    record = lines.record(identity)
    click.echo("  record    " + click.style(json.dumps(record), dim=True))
    refused = record.get("outcome") == "denied"
    return refused == (call is CALLS[-1]) and (refused or status == 200)  # noqa: PLR2004


def _request(call: Call, target: Target) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"model": target.model, "max_tokens": 24}
    if call.stream:
        body["stream"] = True
    if target.chat:
        return "/v1/chat/completions", body | {
            "messages": [{"role": "user", "content": call.prompt}]
        }
    return "/v1/completions", body | {"prompt": call.prompt}


def _received(call: Call, target: Target, identity: str) -> str:
    """What the upstream says it received: the proof that nothing else did, or did not, arrive."""
    if not target.bundled:
        return "(only the bundled upstream can tell what it received)"
    found = get_json(f"{target.url.removesuffix('/v1')}/demo/received?last=1", target.key)["data"]
    if not found or json.loads(found[-1]["body"]).get("prompt") != call.prompt:
        return f"received nothing of {identity}"
    return f"received {found[-1]['body']} with the key {found[-1]['credential']}"


def _invite(base: str, key: str, target: Target) -> None:
    path, body = _request(Call("", "Say hello"), target)
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    refused = _request(CALLS[-1], target)[1]
    click.secho("\nTry it (Ctrl-C stops the gateway)", bold=True)
    for sent in (body, {**body, "stream": True}, refused):
        flag = "-N " if sent.get("stream") else ""
        click.echo(f"  curl {flag}{base}{path} {headers} -d {shlex.quote(json.dumps(sent))}")
    create = "chat.completions.create" if target.chat else "completions.create"
    asked = (
        "messages=[{'role': 'user', 'content': 'Say hello'}]"
        if target.chat
        else "prompt='Say hello'"
    )
    click.echo(
        "\n  from openai import OpenAI\n"
        f"  client = OpenAI(base_url='{base}/v1', api_key='{key}')\n"
        f"  print(client.{create}(model='{target.model}', {asked}))\n"
    )


def _serve_on(lines: Lines) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines.rest():
            click.echo(line)


def _free(wanted: tuple[str, int]) -> int:
    """The wanted port, or another one when it is taken."""
    family = socket.AF_INET6 if ":" in wanted[0] else socket.AF_INET
    for port in (wanted[1], 0):
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((wanted[0], port))
            return int(probe.getsockname()[1])
    raise ConfigError(f"no port is free on {wanted[0]}: choose another --bind")


def _await_port(port: int) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise ConfigError(f"the demo upstream did not start on port {port}")


def _await_ready(base: str, server: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and server.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            get_json(f"{base}/readyz", "")
            return
        time.sleep(0.05)
    raise ConfigError(
        "the gateway did not start: `outgate check --config examples/demo.toml` says why"
    )
