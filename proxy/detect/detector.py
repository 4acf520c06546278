"""What a plugin says about one kind of thing that is to be found in texts."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct


class Detector(Struct, frozen=True, kw_only=True):
    r"""Finds one kind of thing; decides nothing.

    What is found is described in one of three ways:

    - ``core``: a pattern in RE2's syntax, where ``\w \d \s \b`` know ASCII only. It must have a bounded
      length: ``{1,200}`` instead of ``+``. ``context`` must stand directly before it and ``tail``
      directly after it; both are kept and flow, they are not part of the finding. Patterns that start
      with a literal (three characters and more) cost nothing where it does not stand.
    - ``opens`` and ``closes``: patterns around content of any length, both part of the finding; with
      ``tail`` instead of ``closes`` the finding ends before it. What was opened and not closed is found
      to the end of the text; every ``most`` characters count as a finding of their own.
    - ``find``: a function from a text to (start, end) pairs in characters. It is given pieces of the
      text: ``window`` characters with ``window`` characters of context on both sides.

    ``check`` is asked about the text of the core (folded, when ``fold``): False means "not a finding".
    ``fold`` matches on ``proxy.detect.fold.fold(text)`` and maps what was found back.
    ``groups`` are further names that a policy may use for the kind; ``confidence`` is 0 to 1.
    """

    kind: str
    core: str = ""
    context: str = ""
    tail: str = ""
    check: Callable[[str], bool] | None = None
    groups: tuple[str, ...] = ()
    confidence: float = 1.0
    find: Callable[[str], Iterable[tuple[int, int]]] | None = None
    window: int = 0
    opens: str = ""
    closes: str = ""
    most: int = 65536
    fold: bool = False

    @classmethod
    def regex(cls, kind: str, core: str, **rest: Any) -> "Detector":
        """A detector from a pattern; ``rest`` are further fields, such as ``check`` or ``context``."""
        return cls(kind=kind, core=core, **rest)
