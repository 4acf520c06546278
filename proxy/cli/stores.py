"""The store as commands open it: only what they need of the configuration is read, so no provider key must be there."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import click

from proxy.config import read
from proxy.convert import convert
from proxy.errors import ConfigError, Unavailable, nearest
from proxy.store import Store, StoreTable


class Opened(AbstractContextManager["Opened"]):
    """``[store]`` of a configuration, with the names that the rest of it defines; closes the store at its end.

    Raises ``ConfigError``; a store that does not answer ends the command with a sentence.
    """

    def __init__(self, path: str) -> None:
        self._document = read(path)
        table = self._document.get("store")
        if table is None:
            meant = nearest("store", self._document)
            raise ConfigError(
                f'{path}: there is no [store].{meant} Add [store] with url = "sqlite:///outgate.db" and'
                ' pepper = { env = "OUTGATE_PEPPER" }'
            )
        self.store = Store(convert(table, StoreTable, where=f"{path}: store"))

    def names(self, table: str) -> Mapping[str, Any]:
        """``[TABLE.NAME]`` by its names."""
        found = self._document.get(table)
        return found if isinstance(found, dict) else {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.store.close()
        if isinstance(error, Unavailable):
            raise click.ClickException(error.message) from None  # the log has said why
