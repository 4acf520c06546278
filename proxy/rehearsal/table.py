"""``[shadow]``: a second configuration that is judged on live traffic without effect."""

from typing import Final

from msgspec import Struct

from proxy.errors import ConfigError

_LEAST_REPORT: Final = 4096


class ShadowTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[shadow]``: the other file, which ``share`` of the calls it sees, and where disagreements are listed.

    ``config`` is looked for beside the file that names it; at most ``waiting`` calls wait to be judged in each
    process, and ``report`` grows no larger than ``report_bytes``.
    """

    config: str
    report: str = "outgate-shadow.jsonl"
    share: float = 1.0
    waiting: int = 256
    report_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for values that could do nothing."""
        if not self.config or not self.report:
            raise ConfigError('config and report name files: write config = "next.toml"')
        if not 0 < self.share <= 1:
            raise ConfigError(f"share = {self.share}: write a number above 0, up to 1")
        if self.waiting < 1:
            raise ConfigError(f"waiting = {self.waiting}: write a number above zero")
        if self.report_bytes < _LEAST_REPORT:
            raise ConfigError(f"report_bytes = {self.report_bytes}: write {_LEAST_REPORT} or more")
