"""Addresses in the base URLs of accounts, and those that no provider can have."""

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit

# Where clouds serve the credentials of a machine, besides the link-local addresses.
METADATA = {
    ipaddress.ip_address(address)
    for address in (
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
    )
}

# Prefixes before an IPv4 address to which a network or the system may translate.
TRANSLATED = [
    ipaddress.ip_network(prefix)
    for prefix in (
        "64:ff9b::/96",  # RFC 6052
        "64:ff9b:1::/48",  # RFC 8215
        "::ffff:0:0:0/96",  # RFC 7915
        "::/96",  # RFC 4291, section 2.5.5.1
    )
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def canonical_address(url: str) -> str:
    """Return a URL without its scheme, in the same spelling for every URL of the same place."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme)}
    return (host if is_default else f"{host}:{parts.port}") + parts.path.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_forbidden(host: str) -> bool:
    """Whether a host is written as an address that is link-local, or has a cloud's metadata."""
    address = _address_of(host)
    return address is not None and any(
        each.is_link_local or each in METADATA for each in (address, *_embedded_in(address))
    )


def _address_of(host: str) -> Address | None:
    with suppress(ValueError):
        # The part after the percent sign is the network interface.
        return ipaddress.ip_address(host.partition("%")[0])
    # The system takes decimal, octal and hexadecimal forms too, such as 2852039166 and 0xa9.254.1.
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    return None


def _embedded_in(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address may lead to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    teredo = address.teredo or ()
    embedded = [address.ipv4_mapped, address.sixtofour, *teredo]
    if any(address in network for network in TRANSLATED):
        embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in embedded if each is not None]
