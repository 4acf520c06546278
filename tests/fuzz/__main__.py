"""``python -m tests.fuzz NAME SECONDS``: search for bytes that break a property, led by what the code does."""

import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit(
        "atheris is not installed: it has no wheel for this Python or this system. Nothing was searched."
    )

with atheris.instrument_imports(include=["proxy"]):
    from tests.fuzz.properties import PROPERTIES, SEEDS


def main() -> None:
    """Search for so many seconds; ends with a traceback and the bytes when a property does not hold."""
    _, name, seconds = sys.argv
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS[name]):
            (Path(folder) / str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-verbosity=1",
        ]
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", folder], PROPERTIES[name])
        atheris.Fuzz()


main()
