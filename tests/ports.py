"""Ports for servers that start later, or never."""

import os
import socket
from itertools import count
from typing import Final

#: Below what systems hand out by themselves (Linux from 32768, macOS from 49152): nobody gets one by chance
#: between the moment a test is told it and the moment its server listens.
_FIRST: Final = 16384
_MANY: Final = 16384

_turns: Final = count(os.getpid() * 61)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens; no other call in this process gets it soon."""
    for turn in _turns:
        port = _FIRST + turn % _MANY
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("count() does not end")


def free_address() -> str:
    """Such a port, as HOST:PORT."""
    return f"127.0.0.1:{free_port()}"
