"""Upgrades in place: a second main process on the same sockets, streams that run to their end, and the way back."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gunicorn import systemd
from gunicorn.errors import HaltServer

from proxy.config import IN_USE_VARIABLE, RUN_VARIABLE

#: Set by ``outgate serve``: how it was called, which an upgrade calls again.
COMMAND_VARIABLE: Final = "OUTGATE_SERVE_COMMAND"
#: What tells a worker to rest: to take nothing new, and let what is inside run to its end.
#: A process that does not handle it, because it just starts or ends, is not ended by it.
REST: Final = signal.SIGURG


def command() -> list[str]:
    """How this program was called: by a path that may lead to another version next time."""
    own = os.access(sys.argv[0], os.X_OK)
    return [*([sys.argv[0]] if own else [sys.executable, "-m", "proxy.cli"]), *sys.argv[1:]]


def install(server: Any) -> "Succession":
    """Have gunicorn's arbiter upgrade without a cut; after ``reloading.install``, whose HUP it goes on to use."""
    return Succession(server)


def prepare(server: Any) -> None:
    """In the process that becomes the new main process: what it is called with, and what it finds there."""
    environment = server.cfg.env_orig
    environment.pop(IN_USE_VARIABLE, None)
    environment[RUN_VARIABLE] = os.environ[RUN_VARIABLE]
    if told := environment.get(COMMAND_VARIABLE):
        server.START_CTX["args"] = json.loads(told)
        server.START_CTX[0] = server.START_CTX["args"][0]


def is_alone(server: Any) -> bool:
    """Whether no other main process shares the sockets of this one."""
    first = server.master_pid
    return not server.reexec_pid and (not first or first != os.getppid())


def _sign(pid: int) -> Path:
    """The file which says that a main process rests: two at once would leave callers waiting."""
    return Path(os.environ[RUN_VARIABLE], str(pid), "rests")


class Succession:
    """Two main processes, of which either may rest and take up work again.

    gunicorn's own WINCH is for daemons only, starts no workers again when the new main process dies, and has
    streams ended with the drain; its USR2 ends all calls when the new program cannot be run.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._at_rest = False
        _sign(os.getpid()).unlink(missing_ok=True)
        # Workers that were told to rest and have calls inside yet.
        self._resting: set[int] = set()
        self._manage: Callable[[], None] = server.manage_workers
        self._reap: Callable[[], None] = server.reap_workers
        self._promote: Callable[[], None] = server.maybe_promote_master
        self._reload: Callable[[], None] = server.handle_hup
        server.manage_workers = self.manage
        server.reap_workers = self.reap
        server.maybe_promote_master = self.promote
        for name in ("hup", "usr2", "winch"):
            setattr(server, f"handle_{name}", getattr(self, name))
        for name in ("term", "int", "quit"):
            self._hand_over(f"handle_{name}")

    def usr2(self) -> None:
        """Start a second main process, by the command that started this one."""
        main = os.getpid()
        try:
            self._server.reexec()
        except Exception as error:
            if os.getpid() == main:
                raise
            # A forked copy of this process: what it did on its way out would be done to our workers.
            # The reason is for an operator, and no fault of the program.
            self._server.log.error("The upgrade did not start, nothing changes: %s", error)  # noqa: TRY400
            os._exit(1)

    def winch(self) -> None:
        """Rest: the workers take nothing new and let every call run to its end, however long that is."""
        if is_alone(self._server):
            # A terminal sends it, too, whenever its window changes.
            self._server.log.info("Nobody else serves: this main process goes on.")
        elif _sign(self._server.reexec_pid or self._server.master_pid).exists():
            self._server.log.error(
                "The other main process rests: this one goes on. HUP ends a rest."
            )
        else:
            self._rest()

    def hup(self) -> None:
        """At rest, serve again with what was in force; else reload."""
        self.promote()
        if self._at_rest:
            self._serve_again("it was asked to")
        elif self._server.master_pid:
            self._server.log.error(
                "The reload is refused, nothing changes: the main process before this one, %s, is to end first.",
                self._server.master_pid,
            )
        else:
            # The old workers drain, and that goes for those at rest.
            self._resting.clear()
            self._reload()

    def reap(self) -> None:
        """As gunicorn's, which does not say that the other has ended; workers that cannot start end no upgrade."""
        before = self._server.reexec_pid
        try:
            self._reap()
        except HaltServer as error:
            if not before:
                raise
            # Such as those of a version for which the database is too new.
            self._rest()
            self._server.log.error("%s This main process rests, the other goes on.", error.reason)  # noqa: TRY400
        if before and not self._server.reexec_pid:
            self._server.log.warning("The other main process has ended: %s.", before)

    def promote(self) -> None:
        """As gunicorn's; a pid file that somebody else holds does not end a process that serves."""
        try:
            self._promote()
        except RuntimeError as error:
            self._server.log.warning("No pid file: %s", error)

    def manage(self) -> None:
        """As gunicorn's, unless workers rest: those count for nothing and are not hurried."""
        server = self._server
        if self._at_rest and is_alone(server):
            self._serve_again("the other main process has ended")
        if self._at_rest:
            # Again and again: one that was just starting did not hear it the first time.
            self._resting = set(server.WORKERS)
            for pid in self._resting:
                server.kill_worker(pid, REST)
            return
        self._resting &= set(server.WORKERS)
        if not self._resting:
            self._manage()
            return
        for _ in range(server.num_workers - len(server.WORKERS) + len(self._resting)):
            server.spawn_worker()

    def _rest(self) -> None:
        self._at_rest = True
        _sign(os.getpid()).touch()

    def _serve_again(self, why: str) -> None:
        self._at_rest = False
        _sign(os.getpid()).unlink(missing_ok=True)
        self._server.log.warning("This main process serves again: %s.", why)

    def _hand_over(self, name: str) -> None:
        """Before the end, tell systemd which main process goes on."""
        end: Callable[[], None] = getattr(self._server, name)

        def ending() -> None:
            if self._server.reexec_pid:
                systemd.sd_notify(f"MAINPID={self._server.reexec_pid}", self._server.log)
            end()

        setattr(self._server, name, ending)
