"""``outgate egress``: whether the way out to each upstream is open, and what stands in it."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from proxy.cli.options import config_option
from proxy.cli.output import show_json, show_table
from proxy.cli.ways import Way, chosen, providers_of, way_of
from proxy.config import read
from proxy.model import Limits, Timeouts

if TYPE_CHECKING:
    from proxy.egress.probe import Ask, Report

_AT_ONCE: Final = 8
_NOTHING: Final = "-"
_COMMON_NAME: Final = re.compile(r"(?:^|,)CN=((?:\\.|[^,\\])+)")
_HEADS: Final = (
    "upstream",
    "to",
    "through",
    "address",
    "TLS",
    "certificate",
    "days left",
    "trusts",
    "client certificate",
    "credential",
    "answer",
    "result",
)


@click.group()
def egress() -> None:
    """Look at the way out to the upstreams.

    \b
    Example:
      outgate egress check
    """


@egress.command("check")
@config_option
@click.argument("upstreams", metavar="[UPSTREAM]...", nargs=-1)
@click.option(
    "--call", "calls", is_flag=True, help="Also ask for the list of models, with the credential."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For each step, instead of the upstream's own timeouts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all that was seen as JSON.")
@click.pass_context
def check_egress(
    ctx: click.Context,
    path: str,
    upstreams: tuple[str, ...],
    *,
    calls: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Resolve, connect and verify each UPSTREAM as a call would, and say what is wrong; exit status 0 or 1.

    Without an UPSTREAM all of them are looked at. Unless --call is given, nothing is sent but what opens a
    connection, and no credential has to be there. None is ever printed.

    \b
    Example:
      outgate egress check
      outgate egress check openai --call --json
    """
    document = read(path)
    providers, broken = providers_of(document, path)
    tables = chosen(document, path, upstreams)
    ways = [way_of(name, raw, path, providers, broken) for name, raw in tables.items()]
    times = None if timeout is None else Timeouts(*[timeout] * len(Timeouts.__struct_fields__))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        reports = list(pool.map(lambda way: _look(way, times, calls=calls), ways))
    if as_json:
        _show_json(ways, reports)
    else:
        _show(ways, reports, calls=calls)
    if any(report.trouble is not None for report in reports):
        ctx.exit(1)


def _look(way: Way, timeouts: Timeouts | None, *, calls: bool) -> "Report":
    # Here and not above: it loads the HTTP client, which most commands do without.
    from proxy.egress.probe import Report, Trouble, probe

    if way.upstream is None:
        trouble = Trouble(
            "configuration",
            "config",
            way.problem or "",
            "Put it right: outgate docs configuration.",
        )
        return Report(upstream=way.name, trouble=trouble)
    report = probe(way.upstream, Limits(), ask=_ask(way) if calls else None, timeouts=timeouts)
    if calls and way.missing is not None and report.trouble is None:
        trouble = Trouble("call", "credential", way.missing, "Put it there: nothing was asked.")
        report = msgspec.structs.replace(report, trouble=trouble)
    return report


def _ask(way: Way) -> "Ask | None":
    """The provider's list of models, with the company's credential."""
    from proxy.egress.probe import Ask

    if way.models is None or way.provider is None or way.upstream is None or way.missing:
        return None
    headers = {"accept": "application/json", "user-agent": "outgate", **way.provider.headers}
    key = way.upstream.credential
    sign = way.provider.sign and way.provider.sign(way.upstream.settings, key)
    if key and sign is None:
        value = way.provider.credential_prefix + key.reveal()
        headers[way.provider.credential_header] = value
    return Ask(way.models, headers, bool(key or sign), sign or None)


def _show(ways: list[Way], reports: list["Report"], *, calls: bool) -> None:
    rows = [_row(*pair) for pair in zip(ways, reports, strict=True)]
    # What nobody has, such as a proxy or a client certificate, has no column.
    kept = [at for at, head in enumerate(_HEADS) if any(row[at] != _NOTHING for row in rows)]
    show_table([_HEADS[at] for at in kept], [[row[at] for at in kept] for row in rows])
    for way, report in zip(ways, reports, strict=True):
        for line in _remarks(way, report, calls=calls):
            click.echo(line)


def _row(way: Way, report: "Report") -> tuple[Any, ...]:
    tls, trouble = report.tls, report.trouble
    shown = tls.certificate if tls is not None else None
    more = f" of {len(report.addresses)}" if len(report.addresses) > 1 else ""
    return (
        report.upstream,
        report.target or _NOTHING,
        report.proxy or _NOTHING,
        f"{report.address}{more}" if report.address else _NOTHING,
        (tls.version if tls is not None else None) or _NOTHING,
        f"{_short(shown.subject)} by {_short(shown.issuer)}" if shown else _NOTHING,
        shown.days_left if shown else _NOTHING,
        tls.authorities if tls is not None else _NOTHING,
        tls.client_certificate if tls is not None else _NOTHING,
        f"{way.credential}, MISSING" if way.missing else way.credential,
        report.status or _NOTHING,
        "ok" if trouble is None else f"FAILED: {trouble.step}",
    )


def _short(name: str) -> str:
    match = _COMMON_NAME.search(name)
    return match[1] if match else name or "(no name)"


def _remarks(way: Way, report: "Report", *, calls: bool) -> Iterator[str]:
    """What a line of the table has no room for."""
    trouble, tls = report.trouble, report.tls
    if trouble is not None:
        yield f"\n{way.name}: {trouble.detail}"
        for seen in report.addresses if len(report.addresses) > 1 else ():
            yield f"  {seen.address}: {seen.refused or 'allowed'}"
        if tls is not None and not tls.verified and tls.certificate is not None:
            shown = tls.certificate
            yield f"  it shows: {shown.subject}, issued by {shown.issuer}, valid until {shown.expires}"
            yield f"  which is for: {', '.join(shown.names) or 'no name'}"
        yield f"  what to do: {trouble.remedy}"
    elif way.missing is not None:
        yield f"note: {way.missing}"
    if calls and way.note is not None:
        yield f"note: {way.name}: {way.note}"


def _show_json(ways: list[Way], reports: list["Report"]) -> None:
    rows = [
        {
            **msgspec.to_builtins(report),
            "credential": way.credential,
            "credential_missing": way.missing,
            "ok": report.trouble is None,
        }
        for way, report in zip(ways, reports, strict=True)
    ]
    show_json({"ok": all(row["ok"] for row in rows), "upstreams": rows})
