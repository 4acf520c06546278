"""Who may look: a token compared in constant time, sessions that this module signed, and a limit on guesses."""

import hashlib
import hmac
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.secret import Secret

#: Seconds until a session that is not used ends, and until one ends that is.
IDLE: Final = 3600
LONGEST: Final = 12 * 3600
#: Clocks of two processes of one machine may differ by this much.
_AHEAD: Final = 60
_VALUE: Final = re.compile(r"1\.([0-9]{1,12})\.([0-9]{1,12})\.([0-9a-f]{64})")


class Session(NamedTuple):
    """Somebody who showed the token: when, and when that was last written into the cookie (seconds since 1970)."""

    began: int
    issued: int

    def is_due(self, now: float) -> bool:
        """Whether the cookie should be written anew, so that who looks is not sent away in the middle."""
        return now - self.issued > IDLE / 2


class Sessions:
    """Signs and reads sessions: all processes that have the token read each other's, and nothing is stored."""

    def __init__(self, token: Secret) -> None:
        self._token = token.reveal().encode()
        # Slow on purpose: who steals a cookie must not find out the token by trying words.
        self._key = hashlib.scrypt(
            self._token, salt=b"outgate console session 1", n=1 << 14, r=8, p=1, dklen=32
        )

    def is_token(self, shown: str) -> bool:
        """Whether this is the token; takes the same time whatever is shown."""
        digests = (hashlib.sha256(text).digest() for text in (_bytes(shown), self._token))
        return hmac.compare_digest(*digests)

    def begin(self, now: float) -> str:
        """The cookie of somebody who showed the token just now."""
        return self._signed(Session(int(now), int(now)))

    def renew(self, session: Session, now: float) -> str:
        """The cookie by which ``session`` goes on."""
        return self._signed(session._replace(issued=int(now)))

    def read(self, cookie: str, now: float) -> Session | None:
        """The session of a cookie, unless it was made up or is over."""
        found = _VALUE.fullmatch(cookie)
        if found is None:
            return None
        session = Session(int(found[1]), int(found[2]))
        if not hmac.compare_digest(self._signed(session).encode(), cookie.encode()):
            return None
        alive = now < session.issued + IDLE and now < session.began + LONGEST
        return session if alive and session.issued <= now + _AHEAD else None

    def _signed(self, session: Session) -> str:
        text = f"1.{session.began}.{session.issued}"
        return f"{text}.{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


class Guesses:
    """How often a token may be shown that is not the token: ``each`` address, and ``together``, in ``seconds``."""

    def __init__(
        self,
        each: int = 5,
        together: int = 60,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._each, self._together, self._seconds = each, together, seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._made: deque[tuple[float, str]] = deque()

    def take(self, address: str) -> float:
        """Count a guess before it is looked at; 0, or the seconds for which nobody will look."""
        with self._lock:
            now = self._clock()
            while self._made and now - self._made[0][0] >= self._seconds:
                self._made.popleft()
            own = [at for at, who in self._made if who == address]
            if len(own) >= self._each:
                return self._seconds - (now - own[0])
            if len(self._made) >= self._together:
                return self._seconds - (now - self._made[0][0])
            self._made.append((now, address))
            return 0.0

    def forgive(self, address: str) -> None:
        """The guess was right: it does not count, nor do the misspelt ones before it."""
        with self._lock:
            self._made = deque(made for made in self._made if made[1] != address)
