"""The documentation is true: its code runs, its tables and outputs are those of the code, its links lead somewhere.

``OUTGATE_UPDATE_DOCS=1 pytest tests/test_docs.py`` writes the generated parts anew.
"""

import ast
import contextlib
import inspect
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, get_args

import click
import msgspec
import pytest
from click.testing import CliRunner

import proxy
from plugins.pii import Pii
from plugins.secrets import Secrets
from proxy import (
    Detector,
    config,
    hookspecs,
    manual,
    model,
    prices,
    records,
    rules,
    scopes,
    store,
    teams,
    testing,
    tokens,
)
from proxy.audit import AuditTable, ContentTable, ExportEntry
from proxy.bridge.settings import CONTINUE, Bridge
from proxy.cli import main
from proxy.cli.provided import provided
from proxy.console.table import ConsoleTable
from proxy.param_tables import TABLES, markdown
from proxy.rehearsal.table import ShadowTable
from proxy.routing.table import RetryTable, Route, RouteWhen, TargetEntry
from tests import reference
from tests.pages import DOCS, PAGES, README, ROOT, blocks, named

UPDATE: Final = bool(os.environ.get("OUTGATE_UPDATE_DOCS"))

#: Of each provider, beside completions.
ROUTES: Final = ("chat", "embeddings", "models")

_GENERATED: Final = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


#: What the fields of a detector are for.
FIELDS: Final = {
    "kind": "what it finds, as rules and records name it: small letters, digits, hyphens",
    "core": "the pattern of what is found",
    "context": "the pattern of what must stand directly before it; stays, and flows",
    "tail": "the pattern of what must stand directly after it; stays",
    "check": "whether a candidate is one: a checksum, a look at how random it is",
    "groups": "further names for rules, such as `internal` or `pii.contact`",
    "confidence": "how sure it is, 0 to 1, for `policy.confidence`",
    "find": "a function instead of a pattern; it gets pieces of `window` characters with as much around them",
    "window": "the longest finding of `find`, in characters",
    "opens": "the pattern with which something of any length begins",
    "closes": "the pattern with which it ends; part of the finding",
    "most": "characters after which it counts as found, ended or not",
    "fold": "read the text as it looks: look-alike letters as Latin, all digits as ASCII, nothing invisible",
}


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


# -- generated parts -----------------------------------------------------------------------------


def commands() -> str:
    """The ``--help`` of the whole and of every command."""
    run = partial(CliRunner().invoke, main, prog_name="outgate", terminal_width=80)
    every = [("outgate", ["--help"])]
    for name, command in sorted(main.commands.items()):
        inner = command.commands if isinstance(command, click.Group) else {}
        every.append((f"outgate {name}", [name, "--help"]))
        every += [(f"outgate {name} {word}", [name, word, "--help"]) for word in sorted(inner)]
    return "\n".join(f"## {name}\n\n{fenced('text', run(words).output)}" for name, words in every)


def way() -> str:
    """The picture that the README has."""
    found = re.search(r"<!-- way -->\n(.*?)<!-- end -->", README.read_text(), re.DOTALL)
    assert found
    return found[1]


def documentation() -> str:
    """The pages by their groups, as the README lists them."""
    return "".join(
        f"- **{group}**: {', '.join(f'[{page.label}](proxy/docs/{page.name}.md)' for page in pages)}\n"
        for group, pages in manual.grouped().items()
    )


def groups(plugin: Secrets | Pii, *, least: int = 1) -> str:
    """The groups of a plugin's kinds, the largest first; countries are left out, which are many."""
    members: dict[str, set[str]] = {}
    for detector in plugin.detectors():
        for group in detector.groups:
            members.setdefault(group, set()).add(detector.kind)
    rows = [
        f"| `{group}` | {len(kinds)} | {', '.join(f'`{kind}`' for kind in _spread(sorted(kinds)))} |"
        for group, kinds in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        if len(kinds) >= least and not re.fullmatch(r"pii\.[a-z]{2}", group)
    ]
    return "\n".join(["| group | kinds | such as |", "|---|---:|---|", *rows, ""])


def _spread(names: list[str]) -> list[str]:
    """Four of them, from all over the alphabet."""
    return names if len(names) <= 4 else [names[len(names) * at // 4] for at in range(4)]


def provider_table() -> str:
    """What ``outgate providers`` prints, as a table."""
    rows = [
        f"| `{known.provider.name}` | {known.provider.title} | {known.completions or '-'} | "
        + " | ".join("yes" if name in known.provider.paths else "-" for name in ROUTES)
        + f" | {_code(known.provider.credential_variable)} | {_code(known.provider.base_url)} |"
        for known in provided().values()
    ]
    heads = ["| name | | completions | " + " | ".join(ROUTES) + " | key in | base URL |"]
    return "\n".join([*heads, "|---|---|---|" + "---|" * len(ROUTES) + "---|---|", *rows, ""])


def provider_notes() -> str:
    """What is to be known of each provider, and which documents say so."""
    parts = []
    for known in provided().values():
        provider = known.provider
        lines = [f"- {quirk}" for quirk in provider.quirks]
        if provider.extras:
            lines.append(f"- Takes also: {', '.join(provider.extras)}.")
        if provider.documentation:
            lines.append(f"- By: {', '.join(f'<{url}>' for url in provider.documentation)}")
        parts.append("\n".join([f"### {provider.name}", "", *lines, ""]))
    return "\n".join(parts)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "-"


def detector_fields() -> str:
    """The fields of a detector with their types and defaults."""
    rows = []
    for field in msgspec.structs.fields(Detector):
        kind = inspect.signature(Detector).parameters[field.name].annotation
        written = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
        plain = re.sub(r"(?:collections\.abc|typing)\.", "", written).replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{plain}` | `{shown(field)}` | {FIELDS[field.name]} |")
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def example(*words: str) -> str:
    """What a command says of the configuration on the page about order; without what is drawn by chance."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("outgate.toml").write_text(blocks(DOCS / "phases.md", "toml")[0])
        shown = CliRunner().invoke(main, words, prog_name="outgate").output
    return re.sub(r"(?<=<TICKET_1_)[0-9a-z]+", "…", shown)


def order() -> str:
    """The first part of what ``outgate check`` prints."""
    return fenced("text", example("check").partition("\n\n")[0])


def generated(name: str) -> str:
    if name in TABLES:
        return markdown(name)  # type: ignore[arg-type]
    if name.startswith("examples/"):
        return fenced("python", (ROOT / name).read_text())
    if name.startswith("try "):
        return fenced("text", example("try", name.removeprefix("try ")))
    if name in reference.SECTIONS:
        return reference.section(name)
    parts: dict[str, Callable[[], str]] = {
        "commands": commands,
        "way": way,
        "documentation": documentation,
        "groups of secrets": partial(groups, Secrets()),
        "groups of pii": partial(groups, Pii(), least=2),
        "fields of Detector": detector_fields,
        "order": order,
        "words": reference.words,
        "hooks": reference.hooks,
        "kit": reference.kit,
        "providers": provider_table,
        "provider notes": provider_notes,
        "continue": lambda: fenced("text", textwrap.fill(CONTINUE, 110)),
    }
    return parts[name]()


@named(PAGES)
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text()
    current = _GENERATED.sub(lambda match: match[1] + generated(match[2]) + match[3], text)
    if UPDATE:
        page.write_text(current)
    assert text == current or UPDATE, "run: OUTGATE_UPDATE_DOCS=1 pytest tests/test_docs.py"


def test_the_reference_has_everything_that_plugins_may_import() -> None:
    told = [name for names in reference.SECTIONS.values() for name in names]
    assert sorted(told) == sorted(proxy.__all__)
    page = (DOCS / "reference.md").read_text()
    assert all(f"\n## {title}\n" in page for title in reference.SECTIONS)
    assert all(f"\n### `{name}`\n" in page for name in [*told, *testing.__all__])


def test_every_endpoint_with_a_body_has_its_table() -> None:
    names = {name for _, name, _ in _GENERATED.findall((DOCS / "endpoints.md").read_text())}
    assert names == set(TABLES)


# -- hand-written tables -------------------------------------------------------------------------


def table(page: str, heading: str) -> list[list[str]]:
    """The rows below a line that is or begins with ``heading``, without the head of the table."""
    _, _, rest = (DOCS / page).read_text().partition(f"\n{heading}\n")
    assert rest, f"{page} has no line {heading!r}"
    found = re.search(r"(?:^\|.*\|\n)+", rest, re.MULTILINE)
    assert found
    rows = [re.split(r"\s*(?<!\\)\|\s*", line)[1:-1] for line in found[0].splitlines()]
    return [[cell.strip("`") for cell in row[:3]] for row in rows[2:]]


def shown(field: msgspec.structs.FieldInfo) -> str:
    """A default as the tables write it."""
    if field.required:
        return "required"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case Decimal():
            return str(value)
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case tuple():
            items = [f'"{item}"' if isinstance(item, str) else str(item) for item in value]
            return f"[{', '.join(items)}]"
        case str():
            return f'"{value}"'
        case _:
            return "{}"


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("## `[upstreams.NAME]`", config.UpstreamEntry),
        ("## `[upstreams.NAME.timeouts]`", model.Timeouts),
        ("## `[upstreams.NAME.bridge]`", Bridge),
        ("## `[upstreams.NAME.breaker]`", model.Breaker),
        ("## `[[routes]]`", Route),
        ("An upstream as a table", TargetEntry),
        ("The table `when` of a route", RouteWhen),
        ("The table `retry` of a route", RetryTable),
        ("## `[[plugins]]`", config.PluginEntry),
        ("## `[plugins.when]`", scopes.When),
        ("## `[limits]`", model.Limits),
        ("## `[access]`", config.Access),
        ("## `[parameters]`", config.Parameters),
        ("## `[policy]`", rules.PolicyTable),
        ("## `[[policy.rules]]`", rules.ScopedRules),
        ("A rule with a threshold", rules.Rule),
        ("## `[policy.allowed]`", rules.Allowed),
        ("## `[policy.conversation]`", rules.Conversation),
        ("## `[[tokenizers]]`", tokens.TokenizerEntry),
        ("## `[store]`", store.StoreTable),
        ("## `[audit]`", AuditTable),
        ("## `[[audit.export]]`", ExportEntry),
        ("## `[audit.content]`", ContentTable),
        ("## `[console]`", ConsoleTable),
        ("## `[shadow]`", ShadowTable),
        ("## `[teams.NAME]`", teams.Team),
        ("## `[[prices]]`", prices.PriceEntry),
    ],
)
def test_every_key_is_documented_with_its_default(
    heading: str, struct: type[msgspec.Struct]
) -> None:
    documented = {row[0]: row[2] for row in table("configuration.md", heading)}
    assert documented == {field.name: shown(field) for field in msgspec.structs.fields(struct)}


def test_every_table_of_the_configuration_has_a_section() -> None:
    text = (DOCS / "configuration.md").read_text()
    headings = " ".join(re.findall(r"^## .*", text, re.MULTILINE))
    assert all(f"[{name}" in headings for name in config.Config.__struct_fields__)


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("## Records", records.Record),
        ("A failure:", records.Failure),
        ("A verdict:", records.Verdict),
        ("A finding:", records.Finding),
        ("Usage:", records.Usage),
    ],
)
def test_every_field_of_a_record_is_explained(heading: str, struct: type[msgspec.Struct]) -> None:
    assert tuple(row[0] for row in table("operations.md", heading)) == struct.__struct_fields__


def codes() -> set[str]:
    """Every error code that the code names; nginx's too."""
    found = set(re.findall(r'"code":"(\w+)"', (ROOT / "deploy" / "nginx.conf").read_text()))
    paths = [path for folder in ("proxy", "plugins") for path in (ROOT / folder).rglob("*.py")]
    for path in paths:
        if "demo" not in path.parts:
            found |= set(_codes(ast.parse(path.read_text())))
    return found


def _codes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                yield from _texts(value)
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield from _texts(value)
            case ast.AnnAssign(target=ast.Name(id="code"), value=ast.expr() as value):
                yield from _texts(value)
            case ast.Call(func=ast.Name(id="_refuse"), args=[_, _, value, *_]):
                yield from _texts(value)
            case ast.Call(func=ast.Name(id="_unavailable"), args=[_, value, *_]):
                yield from _texts(value)
            case _:
                pass


def _texts(node: ast.expr) -> Iterator[str]:
    values = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    for value in values:
        if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z_]+", str(value.value)):
            yield str(value.value)


@pytest.mark.parametrize("page", [README, DOCS / "endpoints.md"], ids=lambda page: page.name)
def test_every_error_code_is_explained(page: Path) -> None:
    documented = set(re.findall(r"`(\w+)`", page.read_text()))
    assert {"invalid_api_key", "overloaded", "gateway_timeout"} <= codes()
    assert codes() - documented == set()


def test_the_changelog_names_every_hook_and_plugin() -> None:
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "outgate_spec")}
    plugins = {point.name for point in entry_points(group="outgate.plugins")}
    assert hooks
    named = set(re.findall(r"`(\w+)`", (ROOT / "CHANGELOG.md").read_text()))
    assert hooks | plugins <= named
