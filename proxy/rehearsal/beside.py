"""The file that ``[shadow]`` names: found, read, checked, and kept for the workers as the main file is."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from proxy.config import CONFIG_VARIABLE, DEFAULT_CONFIG, IN_USE_VARIABLE, Loaded, parse, read
from proxy.errors import ConfigError
from proxy.rehearsal.loading import SHADOW, Candidate, candidate

#: The copy that is in force, in the folder of the main file's copy.
_COPY: Final = "shadow.toml"


def shadow_of(loaded: Loaded) -> Candidate | None:
    """The candidate that ``[shadow]`` names, ready to judge, or None; raises ``ConfigError`` which names its file."""
    other = loaded_beside(loaded)
    return None if other is None else candidate(other, prefix=SHADOW)


def loaded_beside(loaded: Loaded) -> Loaded | None:
    """The configuration that ``[shadow]`` names, or None; raises ``ConfigError``.

    Its own ``[shadow]`` is left out: today's file may be copied and changed, and become tomorrow's as it is.
    """
    if loaded.config.shadow is None:
        return None
    path = _path(loaded.path, loaded.config.shadow.config)
    try:
        document = read(path, copy=_copy_of(loaded.path))
    except ConfigError as error:
        raise ConfigError(f"{loaded.path}: shadow.config: {error}") from None
    return parse({name: value for name, value in document.items() if name != "shadow"}, str(path))


def announced(found: Candidate | None) -> list[str]:
    """What an operator should read of a shadow in the start-up log."""
    if found is None:
        return []
    lines = [f"shadow {found.path}, {found.parts.digest[:16]}: judges live calls without effect"]
    if found.left_out:
        names = ", ".join(sorted(found.left_out))
        lines.append(f"shadow leaves out {names}: what they decide stands in the store")
    return lines


def keep_beside(asked: Path, copy: Path) -> None:
    """Copy the shadow's file beside the copy of the main file, where workers look for it; else none is there."""
    kept = copy.with_name(_COPY)
    kept.unlink(missing_ok=True)
    with suppress(OSError, ConfigError):
        named = _named(read(copy))
        if named is not None:
            kept.write_bytes(_path(str(asked), named).read_bytes())


def _path(main: str, named: str) -> Path:
    return Path(main).parent / named


def _named(document: dict[str, Any]) -> str | None:
    table = document.get("shadow")
    named = table.get("config") if isinstance(table, dict) else None
    return named if isinstance(named, str) else None


def _copy_of(main: str) -> str | None:
    """The copy in force, if the main file is the one that is being served."""
    served = os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG
    in_use = os.environ.get(IN_USE_VARIABLE)
    if in_use is None or main != served:
        return None
    copy = Path(in_use).with_name(_COPY)
    return str(copy) if copy.is_file() else None
