"""What ``bundled-plugins`` says of the plugins is so: every option is there, and every example loads."""

import dataclasses
import re
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from proxy import Deployment, config
from proxy.convert import GIVEN, Given
from proxy.prices import Prices
from proxy.registry import Registry
from proxy.store import Store, StoreTable
from tests.pages import DOCS, blocks

PAGE = DOCS / "bundled-plugins.md"
SECTIONS = dict(
    re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
)
BUNDLED = {point.name: point.load() for point in entry_points(group="outgate.plugins")}


def test_every_bundled_plugin_has_its_section() -> None:
    assert set(SECTIONS) == set(BUNDLED)


def written(default: str) -> Any:
    """A default as the tables write it: in TOML, or one of two words."""
    words = {"required": dataclasses.MISSING, "none": None}
    if default in words:
        return words[default]
    value = tomllib.loads(f"value = {default}")["value"]
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_every_option_is_documented_with_its_default(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `?([^|`]*)`? \|", SECTIONS[name], re.MULTILINE)
    plugin: Any = BUNDLED[name]
    fields = [
        field
        for field in (dataclasses.fields(plugin) if dataclasses.is_dataclass(plugin) else ())
        if field.init and field.type not in GIVEN
    ]
    assert [row[0] for row in rows] == [field.name for field in fields]
    for field, (_, default) in zip(fields, rows, strict=False):
        made = field.default_factory
        if made is not dataclasses.MISSING and default == "required":
            continue  # an empty table is taken by the type and refused by the plugin
        found = field.default if made is dataclasses.MISSING else made()
        assert found == written(default)


@pytest.mark.parametrize(
    "text", blocks(PAGE, "toml"), ids=sorted(SECTIONS, key=list(SECTIONS).index)
)
def test_every_example_loads(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    if 'use = "presidio"' in text and find_spec("presidio_analyzer") is None:
        pytest.skip("presidio is not installed: pip install 'outgate[presidio]'")
    for name in re.findall(r'env = "(\w+)"', text):
        is_database = name.endswith("DATABASE")
        sample = (
            "postgresql://user:pass@127.0.0.1/calls" if is_database else f"sample-{name}-0123456789"
        )
        monkeypatch.setenv(name, sample)
    text = text.replace("/var/log/outgate", str(tmp_path)).replace("/etc/outgate", str(tmp_path))
    for path in re.findall(r'"(\S+\.txt)"', text):
        Path(path).write_text("Project Bluebird\n")
    for path in re.findall(r'"(\S+/invoice\.json)"', text):
        Path(path).write_text("{}")
    loaded = config.parse(tomllib.loads(text))
    given: dict[type, Given] = {
        Deployment: Deployment,
        Store: lambda: Store(loaded.config.store or StoreTable()),
        Prices: lambda: Prices(loaded.config.prices, where="prices"),
    }
    registry = Registry(loaded.config.plugins, deadline=5.0, given=given)
    assert len(registry.plugins) == len(loaded.config.plugins) > 0
