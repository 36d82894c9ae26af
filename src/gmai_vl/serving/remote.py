"""Pictures from https addresses, off unless a server is started with them: public hosts only, nothing followed.

A name is resolved once, every address that it has is checked, and the connection goes to one of those that were: what
the name means a moment later makes no difference (DNS rebinding).
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache

import httpx

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal

SECONDS = 20.0
"""For a whole fetch."""

PORT = 443

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From the name of a host to its addresses. Raises OSError where it has none."""

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out (RFC 4291, 2.4): not what stands for IPv4 (RFC 6052, 8215), nor fec0::/10."""

_NOT_PUBLIC = tuple(ipaddress.ip_network(net) for net in ("2001::/32", "2002::/16", "3fff::/20", "192.88.99.0/24"))
"""Teredo and 6to4, which stand for IPv4 addresses (RFC 4380, 3056, 7526), and documentation (RFC 9637)."""


async def resolved(host: str) -> list[str]:
    """Return the addresses of a host. Raises OSError where it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


async def fetch_picture(
    url: str,
    limits: Limits,
    place: str,
    *,
    resolve: Resolve = resolved,
    is_allowed: Callable[[str], bool] | None = None,
    trusted: ssl.SSLContext | None = None,
    port: int = PORT,
    seconds: float = SECONDS,
) -> bytes:
    """Return the file at an https address; `place` is where it stands in the request.

    Raises Refusal: 400 for an address that is not https, names a port or a user, or leads to no public host; 413 for
    too large a file; 422 where the host does not give it, in time and without sending the client elsewhere. What
    follows `place` stands for the network where there is none: names, addresses that may be asked, certificates.
    """
    host = _host_of(url, place)
    try:
        async with asyncio.timeout(seconds):
            address = await _public_address(host, place, resolve, is_allowed or is_public)
            return await _fetched(url, host, address, limits, place, trusted or _usual_trust(), port)
    except TimeoutError:
        raise Refusal(422, f"{place}: the host did not give it within {seconds:g} s", param=place) from None
    except httpx.HTTPError as error:
        raise Refusal(422, f"{place}: the host did not give it ({type(error).__name__})", param=place) from None


def _host_of(url: str, place: str) -> str:
    """Return the name that is looked up, as the client that asks later reads the address: two readers may differ."""
    try:
        parts = httpx.URL(url)
        host = parts.raw_host.decode("ascii")
        host.encode("idna")  # no part of it is empty or too long
    except (httpx.InvalidURL, UnicodeError):
        raise Refusal(400, f"{place}: is no address", param=place) from None
    if parts.scheme != "https" or not host:
        raise Refusal(400, f"{place}: pictures come from https addresses or as data: addresses", param=place)
    if parts.port is not None or parts.userinfo:
        raise Refusal(400, f"{place}: an address may name neither a port nor a user", param=place)
    return host


async def _public_address(host: str, place: str, resolve: Resolve, is_allowed: Callable[[str], bool]) -> str:
    """Return an address of a host all of whose addresses are public ones. Raises Refusal."""
    try:
        addresses = await resolve(host)
    except (OSError, UnicodeError):
        raise Refusal(422, f"{place}: its host has no address", param=place) from None
    if not addresses or not all(map(is_allowed, addresses)):
        raise Refusal(400, f"{place}: its host is none of the public network", param=place)
    return addresses[0]


def is_public(address: str) -> bool:
    """Say whether an IP address is one of the public network, and stands for no other one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip in net for net in _NOT_PUBLIC) or (ip.version == 6 and ip not in GLOBAL_UNICAST):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


@cache
def _usual_trust() -> ssl.SSLContext:
    """Return the certificates that are usually trusted; reading them takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


async def _fetched(
    url: str, host: str, address: str, limits: Limits, place: str, trusted: ssl.SSLContext, port: int
) -> bytes:
    """Return the file, from this address under the host's name and certificate."""
    pinned = httpx.URL(url).copy_with(host=address, port=port, fragment=None)
    # identity: what is packed can unpack to any size, and pictures are packed already.
    headers = {"host": httpx.URL(url).netloc.decode("ascii"), "accept": "image/*", "accept-encoding": "identity"}
    async with (
        httpx.AsyncClient(verify=trusted, trust_env=False, follow_redirects=False, timeout=SECONDS) as http,
        http.stream("GET", pinned, headers=headers, extensions={"sni_hostname": host}) as reply,
    ):
        if reply.status_code != 200:
            raise Refusal(422, f"{place}: the host answered with status {reply.status_code}", param=place)
        content = bytearray()
        async for part in reply.aiter_raw():
            content += part
            if len(content) > limits.image_bytes:
                raise Refusal(
                    413, f"{place}: more than {limits.image_bytes} bytes, the limit of a picture", param=place
                )
    return bytes(content)
