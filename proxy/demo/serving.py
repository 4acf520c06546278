"""Runs the demo upstream under gunicorn: one worker, many threads, a quiet log."""

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from proxy.demo.upstream import create_upstream


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    def __init__(self, app: Flask, settings: dict[str, Any]) -> None:
        self._app, self._settings = app, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


def serve(
    host: str,
    port: int,
    *,
    api_key: str | None = None,
    delay: float = 0.03,
    threads: int = 64,
) -> None:
    """Serves until SIGTERM or SIGINT, then leaves by SystemExit as gunicorn does.

    Args:
        host: address to listen on.
        port: TCP port to listen on.
        api_key: the only credential accepted; None accepts all callers.
        delay: seconds between the tokens of a stream, so that one can see them come.
        threads: how many calls, and so streams, are served at a time.
    """
    settings = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": threads,
        "loglevel": "warning",
        "control_socket_disable": True,
        "graceful_timeout": 2,
    }
    _Server(create_upstream(api_key=api_key, delay=delay), settings).run()
