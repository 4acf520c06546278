"""Every listed plugin is loaded and checked at the start; what will not do is named, with the way out."""

import functools
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from msgspec import Struct

from proxy import Call, ConfigError, Deny, Detector, Provider, Reply, hookimpl, only
from proxy.config import PluginEntry
from proxy.origins import check_owner
from proxy.registry import Registry
from proxy.scopes import When


@dataclass(frozen=True)
class Guard:
    word: str = "stop"

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        return Deny("no") if self.word in str(call.body) else None

    @property
    def expensive(self) -> str:
        raise RuntimeError("a property must not run at the start")

    @functools.cached_property
    def costly(self) -> str:
        raise RuntimeError("a property must not run at the start")


class Structured(Struct, frozen=True):
    word: str = "stop"

    @hookimpl
    def guard_request(self) -> Deny | None:
        return None


def entry(use: str = "Guard", **settings: Any) -> PluginEntry:
    return PluginEntry(use=use if ":" in use else f"{__name__}:{use}", **settings)


def loaded(*entries: PluginEntry) -> Registry:
    return Registry(entries, deadline=5)


def refusal(*entries: PluginEntry) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(*entries)
    return str(caught.value)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], PluginEntry]:
    """An entry for a class or module that a test made."""
    holder = types.ModuleType("made_by_a_test")
    monkeypatch.setitem(sys.modules, holder.__name__, holder)

    def make(target: Any, **settings: Any) -> PluginEntry:
        vars(holder)["target"] = target
        return PluginEntry(use=f"{holder.__name__}:target", name="mine", **settings)

    return make


# -- what loads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["Guard", "Structured"])
def test_a_frozen_class_of_options_is_a_plugin(use: str) -> None:
    registry = loaded(entry(use, name="g", options={"word": "halt"}))
    assert registry.plugins[0].instance.word == "halt"
    assert registry.plugins[0].hooks == ("guard_request",)
    # No distribution brought it: a digest of its source tells one version from another.
    assert re.fullmatch("sha256:[0-9a-f]{16}", registry.plugins[0].version)
    assert [step.plugin for step in registry.chain.guard_request] == ["g"]


def test_a_module_of_hooks_is_a_plugin_and_takes_no_options() -> None:
    registry = loaded(PluginEntry(use="plugins.openai:"))
    assert list(registry.providers) == ["openai"]
    message = refusal(PluginEntry(use="plugins.openai:", options={"b": 1, "a": 2}))
    assert message == "plugin 'plugins.openai:': this plugin takes no options, remove a, b"


def test_hooks_run_in_the_order_of_the_configuration_whatever_their_names() -> None:
    names = ["m", "z", "a", "k"]
    registry = loaded(*(entry(name=name) for name in names))
    assert [step.plugin for step in registry.chain.guard_request] == names
    assert [plugin.entry.label for plugin in registry.plugins] == names


def test_the_same_plugin_with_the_same_options_may_be_listed_twice() -> None:
    registry = loaded(
        entry(name="a", when=When(models=("x",))), entry(name="b", when=When(groups=("y",)))
    )
    first, second = registry.chain.guard_request
    assert first.scope
    assert second.scope
    assert first.scope.covers("chat", "p", (), "x")
    assert not second.scope.covers("chat", "p", (), "x")
    assert second.scope.covers("chat", "p", ("y",), "any")


def test_an_entry_gives_its_steps_what_the_operator_said() -> None:
    (step,) = loaded(entry(mode="monitor", on_error="allow", deadline=0.5)).chain.guard_request
    assert (step.monitor, step.allow_on_error, step.deadline) == (True, True, 0.5)
    (step,) = loaded(entry()).chain.guard_request
    assert (step.monitor, step.allow_on_error, step.deadline) == (False, False, 5)


def test_what_is_not_listed_is_not_loaded() -> None:
    registry = loaded()
    assert registry.providers == {}
    assert not any(getattr(registry.chain, hook) for hook in registry.chain.__struct_fields__)


def test_only_narrows_the_operators_endpoints_and_never_widens_them() -> None:
    def covered(when: When) -> set[str]:
        (step,) = loaded(entry("Narrow", when=when)).chain.rewrite_response
        assert step.scope
        names = ("completions", "chat", "embeddings", "models", "model")
        return {name for name in names if step.scope.covers(name, "p", ("g",), "m")}

    assert covered(When()) == {"models", "chat"}
    assert covered(When(endpoints=("ch*",))) == {"chat"}
    assert covered(When(endpoints=("completions",))) == set()
    assert covered(When(models=("other",))) == set()


@dataclass(frozen=True)
class Narrow:
    @hookimpl
    @only("models", "chat")
    def rewrite_response(self, call: Call, reply: Reply) -> None: ...


# -- where it comes from --------------------------------------------------------------------------


def test_a_plugin_that_is_not_installed_is_answered_with_the_nearest_name() -> None:
    message = refusal(PluginEntry(use="regex_gaurd"))
    assert "plugin 'regex_gaurd' is not installed. Did you mean 'regex_guard'?" in message
    assert "Installed: budget, caps, disclaimer, icap_guard, json_schema, jwt, " in message
    assert '"module:Class"' in message


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'. Write module"),
        ("tests.test_registry:Nothing", "AttributeError"),
        (":X", "ValueError: Empty module name."),
        ("tests.test_registry:entry", "is neither a module nor a class"),
        ("tests.test_registry:Melting", "Melting must be frozen"),
        ("tests.test_registry:Bare", "Bare must be frozen"),
        ("tests.test_registry:Soft", "write @dataclass(frozen=True) above it"),
    ],
)
def test_what_cannot_be_imported_or_is_no_plugin_is_refused(use: str, words: str) -> None:
    message = refusal(PluginEntry(use=use))
    assert use in message
    assert words in message


@dataclass
class Melting:
    @hookimpl
    def guard_request(self, call: Call) -> None: ...


class Bare:
    @hookimpl
    def guard_request(self, call: Call) -> None: ...


class Soft(Struct):
    @hookimpl
    def guard_request(self, call: Call) -> None: ...


@pytest.mark.parametrize("code", ["import sys\nsys.exit(0)", "1/0", "def broken(:", "import nix"])
def test_a_module_that_fails_while_it_is_imported_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    name = f"failing_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert f"plugin '{name}:X' cannot be imported: " in refusal(PluginEntry(use=f"{name}:X"))


def test_a_plugin_in_the_working_directory_is_found_but_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text(
        "from proxy import hookimpl\n@hookimpl\ndef guard_request(call): ...\n"
    )
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert loaded(PluginEntry(use="beside:")).plugins[0].hooks == ("guard_request",)
    assert sys.path[-1] == ""
    assert "implements no hook" in refusal(PluginEntry(use="colorsys:"))


def install(folder: Path, name: str, **files: str) -> None:
    """A distribution as ``pip`` leaves it behind."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for file, text in files.items():
        (info / file.replace("__", ".")).write_text(text)


def test_a_plugin_that_two_distributions_offer_is_refused_with_both_ways_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[outgate.plugins]\nmodels = elsewhere:Models\nopenai = elsewhere\n"
    install(tmp_path, "stranger", entry_points__txt=points)
    monkeypatch.syspath_prepend(tmp_path)
    message = refusal(PluginEntry(use="models"))
    assert "plugin 'models' is offered by outgate (use = 'plugins.models:Models')" in message
    assert "stranger (use = 'elsewhere:Models'); say which" in message
    assert "outgate (use = 'plugins.openai:')" in refusal(PluginEntry(use="openai"))
    assert loaded(PluginEntry(use="plugins.openai:")).plugins


def test_a_strangers_entry_point_is_loaded_only_when_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        "acme-guard",
        entry_points__txt=f"[outgate.plugins]\nacme = {__name__}:Guard\ngone = no.such:X\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert loaded().plugins == ()
    (plugin,) = loaded(PluginEntry(use="acme")).plugins
    assert (plugin.origin, plugin.version) == (f"acme-guard ({__name__}:Guard)", "1.0")
    assert "plugin 'gone' cannot be imported: ModuleNotFoundError" in refusal(
        PluginEntry(use="gone")
    )


@pytest.mark.parametrize(
    "files",
    [{"top_level__txt": "proxy\n"}, {"RECORD": "a.py,,\nproxy/__init__.py,sha256=x,1\n"}],
)
def test_another_owner_of_our_packages_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    check_owner()
    install(tmp_path, "proxy.py", **files)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match=r"the package 'proxy' is also installed by proxy\.py"
    ) as e:
        check_owner()
    assert "virtual environment of its own" in str(e.value)


def test_a_distribution_with_a_similar_name_in_it_is_no_rival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "other", RECORD="my/proxy/__init__.py,,\nproxy_tools/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_owner()


# -- options --------------------------------------------------------------------------------------


def test_an_unknown_option_is_refused_with_the_plugin_and_the_nearest_name() -> None:
    message = refusal(entry(name="g", options={"wrod": "x"}))
    assert (
        message == "plugin 'g': options: unknown key 'wrod' = 'x'. Did you mean 'word'?"
        " Known here: word"
    )
    assert "plugin 'g': options: word = 3: Expected str" in refusal(
        entry(name="g", options={"word": 3})
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConfigError("word is empty"), "plugin 'mine': options: word is empty"),
        (ValueError("bad word"), "plugin 'mine': options: ValueError: bad word."),
        (SystemExit(0), "plugin 'mine': options: SystemExit: 0."),
        (KeyboardInterrupt(), "plugin 'mine': options: KeyboardInterrupt."),
    ],
)
def test_a_class_that_refuses_its_options_stops_the_start(
    plugin: Callable[..., PluginEntry], error: BaseException, words: str
) -> None:
    @dataclass(frozen=True)
    class Refusing:
        def __post_init__(self) -> None:
            raise error

        @hookimpl
        def guard_request(self, call: Call) -> None: ...

    assert refusal(plugin(Refusing)) == words


def test_a_class_whose_types_cannot_be_read_is_named(plugin: Callable[..., PluginEntry]) -> None:
    @dataclass(frozen=True)
    class Lost:
        word: "NoSuchType" = ""  # type: ignore[name-defined] # noqa: F821 - that is the mistake

        @hookimpl
        def guard_request(self, call: Call) -> None: ...

    message = refusal(plugin(Lost, options={"word": "x"}))
    assert "plugin 'mine': options: NameError: name 'NoSuchType' is not defined" in message


# -- what an entry may say ------------------------------------------------------------------------


@dataclass(frozen=True)
class Who:
    @hookimpl
    def identify(self, request: Any) -> None: ...


@dataclass(frozen=True)
class Sink:
    @hookimpl
    def log_exchange(self) -> None:
        """Take it."""


@dataclass(frozen=True)
class Kinds:
    @hookimpl
    def providers(self) -> Iterator[Provider]:
        yield Provider(name="acme")


@pytest.mark.parametrize(
    ("use", "settings", "words"),
    [
        ("Who", {"when": When(principals=("a",))}, "identify runs before the caller"),
        ("Who", {"when": When(groups=("a",))}, "identify runs before the caller"),
        ("Who", {"when": When(models=("a",))}, "when takes endpoints only"),
        ("Who", {"mode": "monitor"}, "identify cannot be monitored"),
        ("Who", {"on_error": "allow"}, "identify cannot be skipped on error"),
        ("Guard", {"required": True}, "required = true is for plugins with log_exchange"),
        (
            "Sink",
            {"required": True, "when": When(groups=("a",))},
            "a required log takes endpoints only",
        ),
        ("Kinds", {"when": When(groups=("a",))}, "providers happen once, for all calls"),
        ("Kinds", {"mode": "monitor"}, "remove when and mode"),
    ],
)
def test_an_entry_that_asks_for_what_cannot_be_is_refused(
    use: str, settings: dict[str, Any], words: str
) -> None:
    assert words in refusal(entry(use, **settings))
    assert loaded(entry("Who", when=When(endpoints=("chat",)))).chain.identify


# -- what happens once ----------------------------------------------------------------------------


def test_two_providers_of_one_name_stop_the_start() -> None:
    assert "plugin 'b': the provider 'acme' is there already" in refusal(
        entry("Kinds", name="a"), entry("Kinds", name="b")
    )


def fails() -> Iterator[Any]:
    yield Provider(name="x")
    raise RuntimeError("too late")


@pytest.mark.parametrize("hook", ["providers", "detectors"])
@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda: ["x"], "yields str, not "),
        (lambda: 5, "failed: TypeError: 'int' object is not iterable"),
        (lambda: None, "failed: TypeError: 'NoneType' object is not iterable"),
        (lambda: map(int, ["x"]), "failed: ValueError: invalid literal"),
        (lambda: sys.exit(0), "failed: SystemExit: 0."),
        (fails, "failed: RuntimeError: too late."),
    ],
)
def test_a_start_hook_that_fails_or_gives_something_else_stops_the_start(
    plugin: Callable[..., PluginEntry], hook: str, give: Callable[[], Any], words: str
) -> None:
    def method(self: Any) -> Any:
        return give()

    target: Any = dataclass(frozen=True)(type("Odd", (), {hook: hookimpl(method)}))
    message = refusal(plugin(target))
    assert message.startswith(f"plugin 'mine': {hook} ")
    assert words in message


@pytest.mark.parametrize(
    "value",
    [Provider(name=""), Provider(name="x", paths={"chat": 5}), Provider(name=3)],  # type: ignore[arg-type,dict-item]
)
def test_a_provider_that_is_no_use_stops_the_start(
    plugin: Callable[..., PluginEntry], value: Provider
) -> None:
    @dataclass(frozen=True)
    class Odd:
        @hookimpl
        def providers(self) -> list[Provider]:
            return [value]

    assert "a provider has a name and paths" in refusal(plugin(Odd))


@pytest.mark.parametrize(
    "value",
    [
        Detector(kind="", core="x"),
        Detector(kind="kind", find="x", window=9),  # type: ignore[arg-type]
        Detector(kind=3, core="x"),  # type: ignore[arg-type]
        Detector(kind="kind", core=3),  # type: ignore[arg-type]
        Detector(kind="kind", core="x", check="x"),  # type: ignore[arg-type]
    ],
)
def test_a_detector_that_is_no_use_stops_the_start(
    plugin: Callable[..., PluginEntry], value: Detector
) -> None:
    @dataclass(frozen=True)
    class Odd:
        @hookimpl
        def detectors(self) -> list[Detector]:
            return [value]

    assert "a detector has a kind and patterns, which are texts, or functions" in refusal(
        plugin(Odd)
    )


def test_a_detector_keeps_what_the_operator_said_of_its_plugin(
    plugin: Callable[..., PluginEntry],
) -> None:
    @dataclass(frozen=True)
    class Finds:
        @hookimpl
        def detectors(self) -> Iterator[Detector]:
            yield Detector.regex("ticket", "T-[0-9]{1,9}")

    settings = {"mode": "monitor", "on_error": "allow", "deadline": 0.5}
    (watch,) = loaded(plugin(Finds, when=When(groups=("g",)), **settings)).watches
    assert (watch.detector.kind, watch.plugin) == ("ticket", "mine")
    assert (watch.monitor, watch.allow_on_error, watch.deadline) == (True, True, 0.5)
    assert not watch.scope.covers("chat", "p", (), "m")


def test_init_app_is_given_the_application_and_its_error_stops_the_start(
    plugin: Callable[..., PluginEntry],
) -> None:
    @dataclass(frozen=True)
    class Extends:
        error: str = ""
        seen: list[Flask] = field(init=False, default_factory=list)

        @hookimpl
        def init_app(self, app: Flask) -> None:
            if self.error:
                raise ConfigError(self.error)
            self.seen.append(app)

    app = Flask("test")
    registry = loaded(plugin(Extends))
    registry.init_app(app)
    assert registry.plugins[0].instance.seen == [app]
    with pytest.raises(ConfigError, match="plugin 'mine': no room"):
        loaded(plugin(Extends, options={"error": "no room"})).init_app(app)
