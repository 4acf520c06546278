"""``outgate new-plugin``: a plugin that works and its test, as one file each or as a package to install."""

import keyword
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Final

import click

from proxy.origins import offers

KINDS: Final = ("guard", "detector", "rewriter", "sink", "provider")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
#: Ours, and what pytest would take for tests.
_RESERVED: Final = re.compile(
    r"(proxy|plugins|outgate|wsgi|tests?|conftest|setup)\Z|test_|.*_test\Z"
)
_FORM: Final = "a name has up to 32 small letters, digits and underscores, and begins with a letter"


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(KINDS), default="guard", show_default=True,
    help="What it does: refuse, find, change, log, or speak to another upstream.",
)  # fmt: skip
@click.option("--package", is_flag=True, help="Write a package that can be installed and shipped.")
@click.option(
    "--output", default=".", show_default=True, metavar="DIR",
    type=click.Path(file_okay=False), help="Where to write it.",
)  # fmt: skip
def new_plugin(name: str, kind: str, package: bool, output: str) -> None:
    """Write a plugin of your own that works, with its test: change it into what you need.

    An existing file is never overwritten.

    \b
    Example:
      outgate new-plugin ticket_numbers --kind detector
      outgate new-plugin ticket_numbers --kind detector --package
    """
    _check_name(name, kind, package=package)
    root = Path(output, f"outgate-{name.replace('_', '-')}") if package else Path(output)
    module = f"outgate_{name}" if package else name
    paths = _package_files(kind, module, name) if package else _files(kind, name)
    texts = _filled(paths, name, module)
    _write(root, texts)
    for path in texts:
        click.echo(f"{root / path} is written")
    click.echo("\nThen:\n" + "\n".join(_next(root, name, module, package=package)))


def _check_name(name: str, kind: str, *, package: bool) -> None:
    """Refuse a name that could not be loaded or would hide another; raises ``click.ClickException``."""
    reason = _fault(name, package=package)
    if reason is None:
        return
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    plain = re.sub(r"^[^a-z]+", "", plain)[:20].strip("_") or "my"
    plain = plain.removeprefix("test_").removesuffix("_test")
    offers = (plain, f"{plain}_{kind}", f"my_{plain}_{kind}")
    offer = next(
        (offer for offer in offers if _fault(offer, package=package) is None), f"my_{kind}"
    )
    raise click.ClickException(f"{name!r}: {reason}. Take {offer!r}, for instance.")


def _fault(name: str, *, package: bool) -> str | None:
    if not _NAME.match(name):
        return _FORM
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "this is a word of Python itself"
    if _RESERVED.match(name):
        return "this name has a meaning to Outgate or to pytest"
    owner = next((offer.point for offer in offers() if offer.point.name == name), None)
    if owner is not None:
        return f"a plugin of this name is installed ({owner.value})"
    if not package and name in sys.stdlib_module_names:
        return "this would hide the module of Python's library"
    if not package and _installed(name):
        return "this would hide an installed module"
    return None


def _installed(name: str) -> bool:
    """Whether a module of this name is found elsewhere than in the working directory."""
    found = find_spec(name)
    return found is not None and Path(found.origin or "").parent.resolve() != Path.cwd()


def _files(kind: str, name: str) -> dict[str, str]:
    """Path of each file → its template."""
    return {f"{name}.py": f"{kind}.py", f"test_{name}.py": f"test_{kind}.py"}


def _package_files(kind: str, module: str, name: str) -> dict[str, str]:
    return {
        f"{module}/__init__.py": f"{kind}.py",
        f"{module}/py.typed": "",
        f"tests/test_{name}.py": f"test_{kind}.py",
        "setup.cfg": "setup.cfg",
        "setup.py": "setup.py",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        ".ruff.toml": "ruff.toml",
        ".github/workflows/test.yml": "ci.yml",
    }


def _filled(paths: Mapping[str, str], name: str, module: str) -> dict[str, str]:
    words = name.split("_")
    own = name.replace("_", "-").strip("-")
    values = {
        "name": name,
        "module": module,
        "class_name": "".join(word.capitalize() for word in words if word),
        "title": " ".join(filter(None, words)).capitalize(),
        "distribution": f"outgate-{own}",
        "kind_name": own,
        "mark": own.upper(),
        "version": version("outgate"),
    }
    folder = files("proxy").joinpath("cli", "templates")
    return {
        path: Template(folder.joinpath(f"{template}.txt").read_text("utf-8")).substitute(values)
        if template
        else ""
        for path, template in paths.items()
    }


def _write(root: Path, texts: Mapping[str, str]) -> None:
    """Write all of the files, or none where one of them is there; raises ``click.ClickException``."""
    for path in texts:
        if (root / path).exists():
            raise click.ClickException(
                f"{root / path}: File exists. Choose another name or --output."
            )
    try:
        for path, text in texts.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with (root / path).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise click.ClickException(f"{root}: {error.strerror}. Choose another --output.") from None


def _next(root: Path, name: str, module: str, *, package: bool) -> list[str]:
    """What to do with it."""
    go = [] if str(root) == "." else [f"  cd {root}"]
    if package:
        test, use = ['  pip install --editable ".[test]"', "  pytest"], name
    else:
        test = [f"  pytest test_{name}.py"]
        use = f"{module}:{''.join(word.capitalize() for word in name.split('_'))}"
    load = [
        "",
        "and in outgate.toml (outgate init writes one):",
        "  [[plugins]]",
        f'  use = "{use}"',
    ]
    look = [
        "",
        "and there:",
        '  outgate try "some text"',
        "",
        "outgate docs tutorial goes on from here.",
    ]
    return [*go, *test, *load, *look]
