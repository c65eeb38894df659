"""Who is at the other end: the client's address behind trusted proxies, and whether a web page may call from there.

One decision for CORS and WebSocket alike (contract §8, Origins). Forwarded headers are believed only from peers named
by TRUSTED_PROXIES. Takes ASGI scopes, keeps no state but the rate limit of its own log lines.

Source: RFC 6454 (origins), RFC 9110 §7.2 (Host).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import structlog

from snackbase.config import ConfigError, Settings

log = structlog.get_logger("snackbase.origins")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN_ADDRESS = "unknown"
LOG_AGAIN_AFTER_S = 60
MOST_LOGGED_ORIGINS = 100

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}


class Origins:
    """Decides by the settings `cors_origins`, `trusted_proxies` and `host`.

    Args:
        dev: pages of this machine may call wherever the server listens (`serve --dev`).

    Raises:
        ConfigError: an entry of the first two that cannot be read.
    """

    def __init__(self, settings: Settings, *, dev: bool = False) -> None:
        self._allowed = frozenset(map(_configured_origin, _listed(settings.cors_origins)))
        self._proxies = tuple(map(_configured_network, _listed(settings.trusted_proxies)))
        self._loopback_allowed = settings.bound_to_loopback
        self._dev = dev
        self._logged: dict[str, float] = {}

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """Whether the page that an HTTP or WebSocket scope comes from may call. No Origin header: not a browser, yes.

        A refusal is logged with the setting to change, at most once a minute for each origin.
        """
        given = header(scope, b"origin")
        if given is None:
            return True
        origin = normalized(given)
        if origin is not None and (
            origin in self._allowed
            or (_is_loopback(urlsplit(origin).hostname) and self._loopback_may_call(scope))
            or origin == self.own(scope)
        ):
            return True
        self._log_refusal(given)
        return False

    def _loopback_may_call(self, scope: Mapping[str, Any]) -> bool:
        return self._dev or (self._loopback_allowed and _arrived_on_loopback(scope))

    def own(self, scope: Mapping[str, Any]) -> str | None:
        """The server's own origin as this client sees it, e.g. `https://app.example:8443`; None when unknown."""
        scheme = _SECURE.get(scope.get("scheme", "http"), "http")
        host = header(scope, b"host")
        if self._from_proxy(scope):
            host = _last(header(scope, b"x-forwarded-host")) or host
            scheme = _SECURE.get(_last(header(scope, b"x-forwarded-proto")) or "", scheme)
        return normalized(f"{scheme}://{host}") if host else None

    def client_address(self, scope: Mapping[str, Any]) -> str:
        """The client's address: the rightmost hop of X-Forwarded-For that is no trusted proxy, else the peer's."""
        peer = _peer(scope)
        if not self._from_proxy(scope):
            return peer
        hops = (header(scope, b"x-forwarded-for") or "").split(",")
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                break
            if not self._trusted(address):
                return str(address)
        return peer

    def from_loopback(self, scope: Mapping[str, Any]) -> bool:
        """Whether the client itself, not merely a proxy in front of it, is on this machine."""
        forwarded = header(scope, b"x-forwarded-for") is not None or header(scope, b"forwarded") is not None
        if forwarded and not self._from_proxy(scope):
            # Somebody relays for a client whose address cannot be known.
            return False
        return _is_loopback(self.client_address(scope))

    def _from_proxy(self, scope: Mapping[str, Any]) -> bool:
        if not self._proxies:
            return False
        address = _address(_peer(scope))
        return address is not None and self._trusted(address)

    def _trusted(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._proxies)

    def _log_refusal(self, origin: str) -> None:
        now, shown = monotonic(), origin[:200]
        if now - self._logged.get(shown, -LOG_AGAIN_AFTER_S) < LOG_AGAIN_AFTER_S:
            return
        if len(self._logged) >= MOST_LOGGED_ORIGINS:
            self._logged = {key: at for key, at in self._logged.items() if now - at < LOG_AGAIN_AFTER_S}
            if len(self._logged) >= MOST_LOGGED_ORIGINS:
                return
        self._logged[shown] = now
        log.warning(
            "origin_refused",
            origin=shown,
            hint="add it to SNACKBASE_CORS_ORIGINS; behind a proxy, name the proxy in SNACKBASE_TRUSTED_PROXIES",
        )


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The one value of a header (`name` in lower case); several are joined by commas (RFC 9110 §5.3)."""
    values = [value for key, value in scope["headers"] if key == name]
    return b",".join(values).decode("latin-1") if values else None


def normalized(origin: str) -> str | None:
    """`scheme://host[:port]` in lower case without the scheme's default port; None for `null` and anything else."""
    try:
        parts = urlsplit(origin.strip())
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown_port = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{shown_port}"


def _listed(text: str) -> Iterable[str]:
    return (entry.strip() for entry in text.split(",") if entry.strip())


def _configured_origin(text: str) -> str:
    origin = normalized(text.removesuffix("/"))
    if origin is None:
        hint = "origins are listed one by one" if text == "*" else "expected e.g. https://app.example.com"
        raise ConfigError(f"SNACKBASE_CORS_ORIGINS: {text!r} is not an origin; {hint}")
    return origin


def _configured_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"SNACKBASE_TRUSTED_PROXIES: {text!r} is not an address or network such as 10.0.0.0/8"
        ) from None


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """One hop: an address, with or without a port; `::ffff:1.2.3.4` is 1.2.3.4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _peer(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    if not client:
        return UNKNOWN_ADDRESS
    return _canonical(str(client[0]))


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    """An address in its one spelling; anything else as it is."""
    address = _address(text)
    return text if address is None else str(address)


def _arrived_on_loopback(scope: Mapping[str, Any]) -> bool:
    """Under another ASGI server the setting HOST says nothing about where it listens; the accepted socket does."""
    server = scope.get("server")
    return not server or server[1] is None or _is_loopback(str(server[0]))


def _last(value: str | None) -> str | None:
    """The last of a comma-separated list: what the nearest proxy wrote."""
    return value.rpartition(",")[2].strip() or None if value else None


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback
