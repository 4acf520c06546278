"""A hook implementation that pluggy would pass over or call wrongly is refused at the start."""

# ruff: noqa: ARG002 - a hook is known by the arguments it asks for

import functools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy import Call, ConfigError, hookimpl
from proxy.config import PluginEntry
from proxy.registry import Registry
from proxy.signatures import HOOKS


def refusal(target: type) -> str:
    globals()["Target"] = dataclass(frozen=True)(target)
    with pytest.raises(ConfigError) as caught:
        Registry([PluginEntry(use=f"{__name__}:Target", name="mine")], deadline=1)
    return str(caught.value)


def test_every_hook_of_the_specification_is_known() -> None:
    assert set(HOOKS) == {
        "init_app", "detectors", "providers", "identify", "rewrite_request", "guard_request",
        "admit", "answer_request", "choose_upstream", "rewrite_response", "rewrite_denial",
        "log_exchange", "observe_response",
    }  # fmt: skip


class NoHook:
    def helper(self) -> None: ...


class Forgotten:
    def guard_request(self, call: Call) -> None: ...


class HalfForgotten:
    @hookimpl
    def log_exchange(self, record: Any) -> None: ...

    def guard_request(self, call: Call) -> None: ...


class Misspelt:
    @hookimpl
    def gaurd_request(self, call: Call) -> None: ...


class MisspeltName:
    @hookimpl(specname="guard_requests")
    def check(self, call: Call) -> None: ...


class Wraps:
    @hookimpl(wrapper=True)
    def guard_request(self, call: Call) -> Any:
        return (yield)


class OldWraps:
    @hookimpl(hookwrapper=True)
    def guard_request(self, call: Call) -> Any:
        yield


class First:
    @hookimpl(tryfirst=True)
    def guard_request(self, call: Call) -> None: ...


class Last:
    @hookimpl(trylast=True)
    def guard_request(self, call: Call) -> None: ...


class Defaults:
    @hookimpl
    def guard_request(self, call: Any = None) -> None: ...


class Unknown:
    @hookimpl
    def guard_request(self, cal: Call) -> None: ...


class Rest:
    @hookimpl
    def guard_request(self, *call: Call) -> None: ...


class Keyword:
    @hookimpl
    def guard_request(self, *, call: Call) -> None: ...


class Selfless:
    @hookimpl
    def guard_request(call) -> None: ...  # noqa: N805 - that is the mistake


class Waits:
    @hookimpl
    async def guard_request(self, call: Call) -> None: ...


class WaitsLonger:
    @hookimpl
    async def detectors(self) -> AsyncIterator[Any]:
        yield 1


class Yields:
    @hookimpl
    def guard_request(self, call: Call) -> Iterator[Any]:
        yield None


class Partial:
    guard_request = hookimpl(functools.partial(print))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (NoHook, "plugin 'mine' implements no hook: put @hookimpl above one of init_app,"),
        (Forgotten, "guard_request is a hook, but @hookimpl is missing above it"),
        (HalfForgotten, "guard_request is a hook, but @hookimpl is missing above it"),
        (Misspelt, "gaurd_request: there is no such hook. Did you mean 'guard_request'?"),
        (MisspeltName, "check: there is no such hook. Did you mean 'guard_request'?"),
        (Wraps, "guard_request: wrapper is not taken: the order of [[plugins]]"),
        (OldWraps, "hookwrapper is not taken"),
        (First, "tryfirst is not taken"),
        (Last, "trylast is not taken"),
        (Defaults, "the argument 'call' has a default; remove it"),
        (Unknown, "no argument 'cal'. Did you mean 'call'? guard_request offers: call"),
        (Rest, "write the argument 'call' without * and /"),
        (Keyword, "write the argument 'call' without * and /"),
        (Selfless, "guard_request: self is missing before call"),
        (Waits, "hooks are called without await: write def, not async def"),
        (WaitsLonger, "hooks are called without await: write def, not async def"),
        (Yields, "write return, not yield: this hook gives one value"),
        (Partial, "write a function or a method, not a partial"),
    ],
)
def test_a_hook_that_would_not_run_as_its_author_means_is_refused(target: type, words: str) -> None:
    assert words in refusal(target)


class Fine:
    @hookimpl(specname="guard_request")
    def any_name(self) -> None: ...

    @staticmethod
    @hookimpl
    def log_exchange(record: Any) -> None: ...

    @classmethod
    @hookimpl
    def rewrite_request(cls, call: Call) -> None: ...


def test_fewer_arguments_another_name_and_static_methods_are_fine() -> None:
    globals()["Target"] = dataclass(frozen=True)(Fine)
    registry = Registry([PluginEntry(use=f"{__name__}:Target")], deadline=1)
    assert set(registry.plugins[0].hooks) == {"guard_request", "log_exchange", "rewrite_request"}
    (step,) = registry.chain.guard_request
    assert step.arguments == ()
    assert step.run(call=None) is None
