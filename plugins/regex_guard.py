"""Refuses what an operator's patterns find; each pattern is a kind that ``[policy]`` can treat otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy import ConfigError, Detector, hookimpl


@dataclass(frozen=True)
class RegexGuard:
    """``[plugins.options.patterns]``: kind = 'pattern', in RE2's dialect, which takes linear time on any text."""

    patterns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A guard that guards nothing is a mistake."""
        if not self.patterns or "" in self.patterns.values():
            raise ConfigError(
                "add [plugins.options.patterns] with kind = 'pattern', none of them empty"
            )

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """One detector a pattern; a pattern that RE2 cannot take stops the start."""
        for kind, pattern in self.patterns.items():
            yield Detector.regex(kind, pattern)
