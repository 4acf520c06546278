"""Finds personal data by patterns, checksums and the words beside it; ``[policy]`` says what happens to it."""

from collections.abc import Iterator
from dataclasses import dataclass

from plugins.pii import contact, documents, financial, government, network, persons
from plugins.pii.rule import Rule
from proxy import ConfigError, Detector, Globs, hookimpl


@dataclass(frozen=True)
class Pii:
    """``include`` and ``exclude`` are globs of kinds; ``countries`` are ISO 3166 codes, ``"*"`` for all.

    Rules that belong to no country, such as e-mail and cards, are always there.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    countries: tuple[str, ...] = ("*",)

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """The detectors of the chosen kinds and countries; a choice that finds nothing stops the start."""
        self._check_countries()
        wanted, unwanted = Globs(self.include), Globs(self.exclude)
        rules = [found for found in self._rules() if self._covers(found.country)]
        for glob in (*self.include, *self.exclude):
            if not any(Globs((glob,)).match(found.detector.kind) for found in rules):
                raise ConfigError(
                    f"no kind is called {glob!r}: see 'outgate plugins' for the kinds"
                )
        for found in rules:
            kind = found.detector.kind
            if wanted.match(kind) and not unwanted.match(kind):
                yield found.detector

    def _rules(self) -> Iterator[Rule]:
        yield from financial.rules()
        yield from contact.rules(self._regions())
        yield from government.rules(self._covers)
        yield from network.rules()
        yield from documents.rules()
        yield from persons.rules()

    def _covers(self, country: str) -> bool:
        return not country or "*" in self.countries or country in self.countries

    def _regions(self) -> tuple[str, ...]:
        """Where telephone numbers without a country's code are tried."""
        return contact.REGIONS if "*" in self.countries else self.countries

    def _check_countries(self) -> None:
        known = {"*", *(register.country for register in government.REGISTERS)}
        for country in self.countries:
            if country not in known:
                choices = ", ".join(sorted(known))
                raise ConfigError(f"no rules for country {country!r}: choose from {choices}")
