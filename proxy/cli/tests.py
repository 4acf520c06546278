"""``outgate test``: policy tests that are data, and what a failure looks like."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import click

from proxy.cli.audit.printing import plain
from proxy.cli.options import config_option
from proxy.cli.telling import Telling
from proxy.errors import ConfigError
from proxy.rehearsal.cases import cases_of, chosen
from proxy.rehearsal.expecting import Outcome, run
from proxy.rehearsal.judging import Judge
from proxy.rehearsal.loading import rehearsed

_PLACE: Final = Path("tests/policy")
_LONGEST: Final = 400


@click.command("test", cls=Telling)
@config_option
@click.option(
    "-k", "words", multiple=True, metavar="WORD", help="Only cases with this in their name or file."
)
@click.option("-v", "--verbose", is_flag=True, help="Name every case, not only those that fail.")
@click.option(
    "--junit", type=click.Path(dir_okay=False), metavar="FILE", help="Write a JUnit report for CI."
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
def run_tests(
    path: str, words: tuple[str, ...], verbose: bool, junit: str | None, paths: tuple[Path, ...]
) -> None:
    """Test a policy by cases in TOML: given this call, sent by this caller, this becomes of it.

    PATHS are files or folders, tests/policy without any. Nothing is sent, and no secret of the configuration is
    needed. Exit status 0 if all pass, 1 if some fail, 2 if they could not be run.

    \b
    Example:
      outgate test --config next.toml
      outgate test tests/policy/cards.toml -k iban --junit policy.xml
    """
    judge = Judge(rehearsed(path))
    cases = chosen(cases_of(paths or _default()), words)
    if not cases:
        raise ConfigError(f"no case has {' or '.join(words)} in its name or file")
    outcomes = []
    for case in cases:
        outcome = run(judge, case)
        outcomes.append(outcome)
        for line in _lines(outcome, verbose=verbose):
            click.echo(plain(line))
    failed = sum(bool(outcome.mismatches) for outcome in outcomes)
    for name in sorted(judge.candidate.left_out):
        click.echo(f"left out: {plain(name)}, what it decides stands in the store")
    click.echo(f"{len(outcomes) - failed} passed, {failed} failed")
    if junit is not None:
        _write(junit, outcomes)
    raise SystemExit(1 if failed else 0)


def _default() -> list[Path]:
    if not _PLACE.is_dir():
        raise ConfigError(f"there is no folder {_PLACE}: name files or folders with cases")
    return [_PLACE]


def _lines(outcome: Outcome, *, verbose: bool) -> Iterator[str]:
    case = outcome.case
    if not outcome.mismatches:
        if verbose:
            yield f"passed  {case.where}  {case.written.name}"
        return
    yield f"FAILED  {case.where}  {case.written.name}"
    for mismatch in outcome.mismatches:
        yield f"    {mismatch.what}"
        yield f"      - {_short(mismatch.expected)}"
        yield f"      + {_short(mismatch.found)}"
    yield from _said(outcome)


def _said(outcome: Outcome) -> Iterator[str]:
    """Which plugin said what: for whoever has to find out why."""
    found = outcome.judgement
    for verdict in found.verdicts:
        detail = f" ({verdict.detail})" if verdict.detail else ""
        yield f"    {verdict.plugin}: {verdict.hook} {verdict.verdict}{detail}"
    for side, findings in (("", found.findings), ("reply ", found.reply_findings)):
        for finding in findings:
            yield f"    {finding.plugin}: {finding.kind} in {side}{finding.place}, {finding.action}"


def _summary(outcome: Outcome) -> str:
    first = outcome.mismatches[0]
    return plain(f"{first.what}: {_short(first.expected)} expected, found {_short(first.found)}")


def _short(text: str) -> str:
    text = text.replace("\n", " | ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...(+{len(text) - _LONGEST})"


def _write(path: str, outcomes: Sequence[Outcome]) -> None:
    """A report as CI servers read it (JUnit's XML format)."""
    failed = sum(bool(outcome.mismatches) for outcome in outcomes)
    suite = ET.Element("testsuite", name="outgate", tests=str(len(outcomes)), failures=str(failed))
    for outcome in outcomes:
        file, _, line = outcome.case.where.rpartition(":")
        case = ET.SubElement(
            suite,
            "testcase",
            classname=plain(file),
            name=plain(outcome.case.written.name),
            line=line,
        )
        if outcome.mismatches:
            lines = [plain(line) for line in _lines(outcome, verbose=False)]
            ET.SubElement(case, "failure", message=_summary(outcome)).text = "\n".join(lines)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
