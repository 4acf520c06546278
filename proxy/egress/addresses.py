"""Which hosts an operator may name, and which network addresses a call may then connect to."""

import ipaddress
import re
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, TypeAlias

from msgspec import Struct

from proxy.egress.causes import Diagnosed
from proxy.errors import ConfigError

IP: TypeAlias = IPv4Address | IPv6Address

_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[0-9A-Za-z._~!$&'()*+,;=:/-]*)?"
)
_NAME_LENGTH: Final = 253
_LABEL: Final = re.compile(r"[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?")
# The C library reads these as IPv4 addresses although they do not look like one: 127.1, 0x7f000001, 2130706433.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# IANA special-purpose registries; ``is_global`` alone is wrong for several of these before Python 3.11.10.
_BLOCKED: Final = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20",
    "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
# No upstream lives here, whatever is configured: cloud metadata services, multicast, "any", broadcast.
_NEVER: Final = _networks(
    "0.0.0.0/8", "169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32",
    "192.0.0.192/32", "224.0.0.0/4", "255.255.255.255/32", "::/128", "fd00:ec2::254/128",
    "ff00::/8",
)  # fmt: skip
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOOPBACK: Final = IPv6Address("::1")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


class BaseUrl(Struct, frozen=True):
    """A base URL in parts; every URL that is sent is built from these, never from text again."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header: the port only when it is not the scheme's own."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def origin(self) -> str:
        """``scheme://authority``."""
        return f"{self.scheme}://{self.authority}"


class Address(Struct, frozen=True):
    """One network address that was checked; ``sockaddr`` is what the socket connects to."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def text(self) -> str:
        """``ip:port``, with brackets around an IPv6 address."""
        return format_address(self.sockaddr)


def parse_base_url(url: str, *, allow_http: bool) -> BaseUrl:
    """The parts of an operator's base URL.

    Accepts only ``https://host[:port][/path]`` in plain ASCII (``http`` when ``allow_http``): URL
    parsers disagree about everything else (user info, backslashes, percent signs in the host, numeric
    hosts). A trailing slash is dropped.

    Raises:
        ConfigError: the URL is anything else. The message does not repeat it: it may hold a password.

    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigError(
            "a base URL is https://host, https://host:port or either with a /path:"
            " plain ASCII, no user name or password, no query, no fragment"
        )
    scheme, path = match["scheme"], (match["path"] or "").rstrip("/")
    if scheme == "http" and not allow_http:
        raise ConfigError(
            "a base URL must be https:// (http:// is for upstreams with allow_private = true)"
        )
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        raise ConfigError("the path of a base URL has no empty part and no '.' or '..'")
    return BaseUrl(scheme, _host(match["host"]), _port(match["port"], scheme), path)


def _port(text: str | None, scheme: str) -> int:
    port = int(text) if text else _PORTS[scheme]
    if not 1 <= port <= 0xFFFF:  # noqa: PLR2004 - 16 bits
        raise ConfigError("the port of a base URL is between 1 and 65535")
    return port


def _host(text: str) -> str:
    """A DNS name in lower case or a canonical IP address, without brackets."""
    bare = text.strip("[]").lower()
    if (literal := literal_address(bare)) is not None:
        return str(literal)
    labels = bare.split(".")
    if text.startswith("[") or len(bare) > _NAME_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise ConfigError(
            "the host of a base URL is a DNS name, an IPv4 address or an [IPv6] address"
        )
    if _NUMBER.fullmatch(labels[-1]):
        raise ConfigError(
            "the host of a base URL is a number in disguise: write an IPv4 address with four decimals"
        )
    return bare


def literal_address(host: str) -> IP | None:
    """``host`` as an IP address when it is written as one, else None."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def resolve(host: str, port: int, *, allow_private: bool) -> list[Address]:
    """The addresses of ``host``, all of them checked, in the resolver's order.

    One bad address among good ones refuses the host: which of them would be used is the attacker's choice.

    Raises:
        UpstreamError: ``resolve`` when there is no address, ``refused_address`` when one is not allowed.

    """
    addresses = lookup(host, port)
    for address in addresses:
        check(str(address.sockaddr[0]), allow_private=allow_private)
    return addresses


def lookup(host: str, port: int) -> list[Address]:
    """The addresses of ``host`` without any check, for the operator's own outbound proxy.

    Raises:
        UpstreamError: ``resolve`` when there is none.

    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Diagnosed(
            "resolve",
            f"the name {host!r} could not be resolved",
            f"Look whether {host} is spelt right and whether this machine's resolver knows it; if only a proxy"
            " leads out of this network, set outbound_proxy: it resolves names itself.",
        ) from error
    return [Address(int(family), sockaddr) for family, _, _, _, sockaddr in found]


def check(text: str, *, allow_private: bool) -> None:
    """Let an address pass, or raise ``UpstreamError`` of kind ``refused_address``."""
    for address in _meanings(ipaddress.ip_address(text.partition("%")[0])):
        if any(address in network for network in _NEVER):
            raise Diagnosed(
                "refused_address",
                f"{text} is never an upstream (metadata, multicast or unspecified)",
                "No setting allows this address: look who answers for the name.",
            )
        if not allow_private and not _public(address):
            raise Diagnosed(
                "refused_address",
                f"{text} is not a public address (see allow_private)",
                "If the upstream stands in your own network, set allow_private = true; if not, look who answers"
                " for the name.",
            )


def _public(address: IP) -> bool:
    if isinstance(address, IPv6Address) and address in _MAPPED:
        return True  # judged by the IPv4 address inside it, which _meanings gives as well
    return address.is_global and not any(address in network for network in _BLOCKED)


def _meanings(address: IP) -> Iterator[IP]:
    """``address`` and every IPv4 address that a host, tunnel or translator could take it for."""
    yield address
    if isinstance(address, IPv6Address):
        yield from _embedded(address)


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    number = int(address)
    if address in _COMPATIBLE and address not in (_LOOPBACK, IPv6Address(0)):
        yield IPv4Address(number & 0xFFFFFFFF)
    if address in _MAPPED or address in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def format_address(sockaddr: tuple[Any, ...]) -> str:
    """``ip:port`` of a socket address."""
    host, port = str(sockaddr[0]), sockaddr[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
