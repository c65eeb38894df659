"""Builds everything from the settings, by explicit constructor calls: the only place that knows which part needs which.

`open_core` makes what the command line shares with the server: the store and the services on it. `build` adds what
serves clients. Nothing here starts a task or listens.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute

from snackbase.app.database import make_store
from snackbase.auth import Claims, PasswordHasher, Tokens, load_secret
from snackbase.bus.base import Bus, NoBus
from snackbase.bus.hints import Hints
from snackbase.bus.nats_ import NatsBus, check_url
from snackbase.catalog import Catalog
from snackbase.config import Settings
from snackbase.gateway.echo import echo_routes
from snackbase.gateway.sse import SseEndpoint
from snackbase.gateway.websocket import WebSocketEndpoint
from snackbase.hooks import Hooks, Later
from snackbase.hub import Hub
from snackbase.hub.admission import Patience
from snackbase.metrics import Counters, Metrics
from snackbase.model import Principal, User
from snackbase.origins import Origins
from snackbase.realtime.position import Positions
from snackbase.services.accounts import Accounts
from snackbase.services.api_keys import ApiKeys, KeyUses
from snackbase.services.authenticate import Authenticated, Authenticator
from snackbase.services.collections import Collections
from snackbase.services.groups import Groups
from snackbase.services.idempotency import Repeats
from snackbase.services.ids import Ids
from snackbase.services.invitations import Invitations
from snackbase.services.members import Members, NewSuperadmin
from snackbase.services.records import Records
from snackbase.services.roles import Roles
from snackbase.storage.base import Store
from snackbase.storage.sqlite import wall_clock_us
from snackbase.web.accounts import AccountRoutes
from snackbase.web.api_keys import ApiKeyRoutes
from snackbase.web.changes import ChangeRoutes
from snackbase.web.colleagues import Colleagues
from snackbase.web.collections import CollectionRoutes
from snackbase.web.console import ConsoleRoutes
from snackbase.web.direct import Direct
from snackbase.web.documents.routes import DocumentRoutes
from snackbase.web.explain import ExplainRoutes
from snackbase.web.guard import Guard, after_a_look
from snackbase.web.invitations import InvitationRoutes
from snackbase.web.middleware import Http, not_found
from snackbase.web.ops import OpsRoutes
from snackbase.web.own import OwnRoutes
from snackbase.web.records import RecordRoutes
from snackbase.web.roles import GroupRoutes, RoleRoutes
from snackbase.web.transfer import TransferRoutes

RECORDS = "/api/v1/records/"
"""Where the busiest routes are."""


class Core:
    """The store, and the services that need nothing but it."""

    def __init__(self, settings: Settings, store: Store, secret: bytes) -> None:
        self.settings = settings
        self.store = store
        self.secret = secret
        self.hasher = PasswordHasher(threads=settings.password_hash_threads, queue=settings.password_hash_queue)
        self.tokens = Tokens(
            secret,
            access_s=settings.access_token_expire_minutes * 60,
            refresh_s=settings.refresh_token_expire_days * 86400,
            now=time.time,
        )
        self.key_uses = KeyUses(store)
        self.authenticator = Authenticator(
            store, self.tokens, single_tenant=settings.single_tenant_account, on_key=self.key_uses.note
        )
        self.accounts = Accounts(store, self.tokens, self.hasher, settings)
        self.members = Members(store, self.hasher, settings)
        self.catalog = Catalog()

    async def load(self) -> None:
        """Read the collections, and follow changes of them."""
        self.store.on_schema = self.catalog.replace
        self.catalog.replace(*await self.store.collections())

    async def bootstrap(self) -> NewSuperadmin | None:
        """Make what only a first start makes."""
        await self.members.bootstrap_single_tenant()
        return await self.members.bootstrap_superadmin()

    async def close(self) -> None:
        """Commit what waits and let go of threads and file."""
        self.hasher.close()
        await self.store.close()


async def open_core(settings: Settings) -> Core:
    """Open the database (making it if it is not there) and the services on it.

    Raises:
        ConfigError: a setting, the secret or the file cannot be used. Unavailable: the database cannot be opened.
    """
    store = make_store(settings)
    secret = load_secret(settings)
    await store.open()
    return Core(settings, store, secret)


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """What a running application consists of."""

    core: Core
    hub: Hub
    bus: Bus
    http: Http
    records: Records


def build(
    core: Core,
    *,
    hooks: Hooks,
    metrics: Metrics,
    spawn: Callable[..., object],
    later: Later,
    stopping: Callable[[], bool],
    own: OwnRoutes | None = None,
    colleagues: Colleagues | None = None,
    dev: bool = False,
) -> Graph:
    """Everything that serves clients, on an open core.

    Args:
        spawn: starts a task that the application owns. later: runs after-hooks.
        stopping: whether the application is about to stop. own: the application's endpoints.
        colleagues: the other workers of the same server, if it has any.
        dev: everybody is told what is otherwise told to superadmins or the log only (`serve --dev`).

    Raises:
        ConfigError: an endpoint that would never be asked.
    """
    settings, store, counters = core.settings, core.store, metrics.counters
    origins = Origins(settings, dev=dev)
    positions = Positions(store.epoch)
    records = Records(
        store,
        core.catalog,
        hooks,
        positions,
        later=later,
        new_id=Ids(wall_clock_us, secrets.randbits).new,
        now_us=wall_clock_us,
        explain=dev,
    )
    bus = _bus(core, counters)
    hub, realtime = _realtime(core, records, hooks, counters, positions, origins, bus, spawn, later)
    store.on_commit = hub.committed
    store.on_hint = hub.neighbours.noticed
    store.on_break = hub.doubt
    store.on_schema = hub.schema_changed

    core.accounts.on_entry = _entry_hooks(hooks, later)

    def fault() -> str | None:
        return None if store.stats()["healthy"] else "store"

    ops = OpsRoutes(
        settings=settings,
        origins=origins,
        metrics=metrics,
        fault=fault,
        draining=stopping,
        colleagues=colleagues,
    )
    # The router tries one after the other: the busiest come first.
    routes = [*_rest(core, records, hooks, counters, origins, later, hub.refresh), *realtime, *ops.routes()]
    routes += ConsoleRoutes(enabled=settings.console_enabled).routes()
    # One glance tells that a request is no WebSocket; a WebSocket that came last would be compared with every path.
    routes.sort(key=lambda route: not isinstance(route, WebSocketRoute))
    guest = Guard(core.authenticator, counters).authenticate_or_guest
    routes += DocumentRoutes(core.catalog, guest, lambda: routes).routes()
    if own is not None:
        routes += own.routes(Guard(core.authenticator, counters), routes)
    _publish(metrics, hub, store, bus)
    router = Router(routes, redirect_slashes=False, default=not_found)
    busiest = [one for one in routes if isinstance(one, Route) and one.path.startswith(RECORDS)]
    direct = Direct(RECORDS, busiest)
    http = Http(router, settings=settings, origins=origins, counters=counters, direct=direct, explain=dev)
    return Graph(core=core, hub=hub, bus=bus, http=http, records=records)


def _bus(core: Core, counters: Counters) -> Bus:
    """Raises ConfigError when the setting cannot be used."""
    settings = core.settings
    if not settings.bus_url:
        return NoBus()
    check_url(settings.bus_url)
    hints = Hints(core.secret, node=secrets.token_hex(8))
    return NatsBus(
        settings.bus_url,
        prefix=settings.bus_prefix,
        hints=hints,
        lineage=lambda: core.store.lineage,
        tally=counters.hints,
    )


def _entry_hooks(hooks: Hooks, later: Later) -> Callable[[str, User], None]:
    def entered(event: str, user: User) -> None:
        if hooks.has(event):
            values = {"user_id": user.id, "account_id": user.account_id, "email": user.email}
            later(lambda: hooks.fire(event, refusing=False, **values))

    return entered


def _rest(
    core: Core,
    records: Records,
    hooks: Hooks,
    counters: Counters,
    origins: Origins,
    later: Later,
    refresh: Callable[[], Awaitable[None]],
) -> list[BaseRoute]:
    guard = Guard(core.authenticator, counters)
    user = after_a_look(guard.authenticate, core.catalog, refresh)
    guest = after_a_look(guard.authenticate_or_guest, core.catalog, refresh)
    new_id = Ids(wall_clock_us, secrets.randbits).new
    repeats = Repeats(core.store, now_us=wall_clock_us)
    collections = Collections(core.store, core.catalog, hooks, later=later, new_id=new_id)
    return [
        *TransferRoutes(records, user).routes(),
        *RecordRoutes(records, repeats, guest).routes(),
        *CollectionRoutes(collections, user, now_us=wall_clock_us).routes(),
        *_people(core, guard, origins),
    ]


def _people(core: Core, guard: Guard, origins: Origins) -> list[BaseRoute]:
    store, authenticate, address = core.store, guard.authenticate, origins.client_address
    invitations = Invitations(store, core.accounts)
    return [
        *AccountRoutes(core.accounts, core.members, authenticate, client_address=address).routes(),
        *InvitationRoutes(invitations, authenticate, client_address=address).routes(),
        *GroupRoutes(Groups(store), core.members, authenticate).routes(),
        *RoleRoutes(Roles(store), authenticate).routes(),
        *ApiKeyRoutes(ApiKeys(store, core.key_uses), authenticate).routes(),
    ]


def _realtime(
    core: Core,
    records: Records,
    hooks: Hooks,
    counters: Counters,
    positions: Positions,
    origins: Origins,
    bus: Bus,
    spawn: Callable[..., object],
    later: Later,
) -> tuple[Hub, list[BaseRoute]]:
    settings = core.settings

    async def principal(token: str, account: str | None) -> Authenticated:
        return await core.authenticator.principal(token, account=account)

    authenticate = Patience(principal).authenticate

    async def reload(claims: Claims, account_id: str) -> Principal:
        return await core.authenticator.reload(claims, account_id=account_id)

    hub = Hub(
        store=core.store,
        catalog=core.catalog,
        hooks=hooks,
        positions=positions,
        settings=settings,
        counters=counters,
        authenticate=authenticate,
        reload=reload,
        snapshot=records.snapshot,
        bus=bus,
        spawn=spawn,
        later=later,
    )
    websocket = WebSocketEndpoint(hub, authenticate=authenticate, origins=origins, settings=settings, counters=counters)
    sse = SseEndpoint(hub, authenticate=authenticate, origins=origins, settings=settings, counters=counters)
    changes = ChangeRoutes(
        hub.polling,
        Guard(core.authenticator, counters).authenticate,
        enabled=settings.realtime_enabled,
        most=settings.realtime_max_subscriptions,
    )
    explain = ExplainRoutes(hub, Guard(core.authenticator, counters).authenticate)
    return hub, [*websocket.routes(), *sse.routes(), *changes.routes(), *explain.routes(), *echo_routes(settings)]


def _publish(metrics: Metrics, hub: Hub, store: Store, bus: Bus) -> None:
    """The gauges: numbers that somebody else keeps."""
    metrics.gauge("realtime_connections", hub.counts, help="Live connections.", label="transport")
    metrics.gauge(
        "realtime_unsent_bytes",
        lambda: hub.delivery.buffered,
        help="Bytes that wait for connections which read too slowly, at the last look.",
    )
    metrics.gauge("realtime_subscriptions", hub.subscriptions, help="Live subscriptions.")
    metrics.gauge(
        "realtime_groups", hub.feeds.groups, help="Different views among them; each event is judged once for each."
    )
    metrics.gauge("log_head", partial(_log_head, hub), help="Newest number routed of any live account's log.")
    metrics.gauge("bus_up", lambda: int(bus.up), help="1 while hints of other nodes arrive by the bus.")
    for name in store.stats():
        metrics.gauge(f"store_{name}", partial(_stat, store, name))


def _log_head(hub: Hub) -> float:
    return max((live.at.seq for live in hub.feeds.all()), default=0)


def _stat(store: Store, name: str) -> float:
    return store.stats()[name]
