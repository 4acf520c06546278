import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy import ConfigError, Store
from proxy.store import StoreTable
from tests.store.servers import opened


def test_who_needs_no_store_does_not_pay_for_one() -> None:
    code = "import sys, proxy, proxy.cli; print([m for m in ('sqlalchemy', 'psycopg') if m in sys.modules])"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    store = opened(f"sqlite:///{tmp_path / 'outgate.db'}")
    assert list(tmp_path.iterdir()) == []
    assert store.keys.list() == ()
    assert (tmp_path / "outgate.db").is_file()


def test_the_threads_of_a_process_share_what_is_open(store_url: str) -> None:
    store = opened(store_url)
    found: list[object] = []
    barrier = threading.Barrier(16)

    def use() -> None:
        barrier.wait()
        found.append((id(store.database), id(store.keys), id(store.ledger), id(store.usage)))

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_a_pepper_is_only_needed_where_keys_are(store_url: str) -> None:
    store = Store(StoreTable(url=store_url))
    store.start()
    assert store.usage.report([]) == []
    with pytest.raises(ConfigError, match=r"store\.pepper is missing"):
        store.keys.find("og-" + "x" * 43)
    store.close()
