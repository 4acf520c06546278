import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.egress.addresses import BaseUrl, check, format_address, lookup, parse_base_url, resolve
from proxy.errors import ConfigError, UpstreamError

PUBLIC = [
    "8.8.8.8", "1.1.1.1", "104.18.7.192", "2606:4700::6812:7c0", "2001:4860:4860::8888",
    "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.1.1", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "240.0.0.1", "::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1", "fe80::1",
    "fe80::1%lo", "fec0::1", "fc00::1", "fd12:3456::1", "100::1", "2001:db8::1", "3fff::1",
    "2001:0:a00:1::1", "5f00::1", "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "0.0.0.0",
    "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254", "::ffff:0.0.0.0",
]  # fmt: skip
DISGUISES = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "localhost",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_pass(text: str) -> None:
    check(text, allow_private=False)


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_pass_only_where_allowed(text: str) -> None:
    check(text, allow_private=True)
    with pytest.raises(UpstreamError, match="not a public address"):
        check(text, allow_private=False)


@pytest.mark.parametrize("text", NEVER)
@pytest.mark.parametrize("allow_private", [True, False])
def test_metadata_and_multicast_never_pass(text: str, *, allow_private: bool) -> None:
    with pytest.raises(UpstreamError) as caught:
        check(text, allow_private=allow_private)
    assert caught.value.kind == "refused_address"


@given(st.ip_addresses())
def test_no_address_passes_that_the_library_does_not_call_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        check(str(address), allow_private=False)
    except UpstreamError:
        return
    assert address.is_global


@pytest.mark.parametrize("name", DISGUISES)
def test_every_spelling_of_loopback_is_refused(name: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        resolve(name, 80, allow_private=False)
    assert caught.value.kind in {"refused_address", "resolve"}


@pytest.mark.parametrize("name", ["2852039166", "0xa9fea9fe", "169.254.169.254", "0"])
def test_every_spelling_of_metadata_is_refused_even_for_private_upstreams(name: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        resolve(name, 80, allow_private=True)
    assert caught.value.kind == "refused_address"


def test_resolving_gives_what_a_socket_connects_to() -> None:
    (address,) = resolve("127.0.0.1", 8080, allow_private=True)
    assert (address.family, address.sockaddr) == (socket.AF_INET, ("127.0.0.1", 8080))
    assert address.text == "127.0.0.1:8080"


@pytest.mark.parametrize("name", ["a" * 64 + ".invalid", "\ud800"])
def test_a_name_without_an_address_is_a_resolve_error(name: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        lookup(name, 80)
    assert caught.value.kind == "resolve"


def test_ipv6_addresses_are_named_with_brackets() -> None:
    assert format_address(("::1", 80, 0, 0)) == "[::1]:80"


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("https://api.openai.com/v1", ("https", "api.openai.com", 443, "/v1"), "api.openai.com"),
        (
            "https://API.OpenAI.com:443/v1/",
            ("https", "api.openai.com", 443, "/v1"),
            "api.openai.com",
        ),
        ("https://h:8443", ("https", "h", 8443, ""), "h:8443"),
        ("http://my_vllm:8000/v1", ("http", "my_vllm", 8000, "/v1"), "my_vllm:8000"),
        ("http://10.0.0.1", ("http", "10.0.0.1", 80, ""), "10.0.0.1"),
        ("http://[::1]:80/", ("http", "::1", 80, ""), "[::1]"),
        ("http://[FD00::0001]:81", ("http", "fd00::1", 81, ""), "[fd00::1]:81"),
        ("https://h/a/b-c_d~e:f", ("https", "h", 443, "/a/b-c_d~e:f"), "h"),
    ],
)
def test_a_plain_base_url_is_taken_apart(
    url: str, parts: tuple[str, str, int, str], authority: str
) -> None:
    base = parse_base_url(url, allow_http=True)
    assert base == BaseUrl(*parts)
    assert base.authority == authority
    assert base.origin == f"{parts[0]}://{authority}"


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "https:///v1", "api.openai.com", "//h", "ftp://h", "file:///etc/passwd",
        "http+unix://sock", "HTTPS://h", "https://user@h", "https://user:secret@h", "https://:@h",
        "http://127.0.0.1\\@good.com/", "http://good.com\\@127.0.0.1/", "https://h#@good.com",
        "https://h?@good.com", "https://h%2f@good.com", "https://h/%2e%2e", "https://h\t", "https://h\n",
        " https://h", "https://h\0", "https://h／x", "https://ｈ", "https://①②⑦.⓪.⓪.①",
        "https://h?x=1", "https://h#f", "https://h/a b", "https://h/a\\b", "https://h/../a", "https://h/./a",
        "https://h//a", "https://h/a//b", "https://h:0", "https://h:65536", "https://h:99999", "https://h:",
        "https://h:x", "https://h:+1", "https://.h", "https://h.", "https://a..b", "https://-h", "https://h-",
        "https://[h]", "https://[::1", "https://::1", "https://[fe80::1%25lo]", "https://[127.0.0.1.1]",
        "https://2130706433", "https://0x7f000001", "https://0177.0.0.1", "https://127.1", "https://0",
        "https://1.2.3.4.5", "https://a.0x", "https://256.1.1.1", "https://" + "a" * 64,
        "https://" + "a." * 130 + "a",
    ],
)  # fmt: skip
def test_every_other_base_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_base_url(url, allow_http=True)
    assert "secret" not in str(caught.value)


def test_plain_http_needs_leave() -> None:
    with pytest.raises(ConfigError, match="allow_private"):
        parse_base_url("http://h", allow_http=False)
