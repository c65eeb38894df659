"""Every setting: one typed object, read once from the environment and `.env` (contract §10).

Nobody else reads the environment. The descriptions here are the source of docs/reference/settings.md, which a test
compares. An unknown `SNACKBASE_*` name is an error that suggests the nearest one.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PREFIX = "SNACKBASE_"


class ConfigError(Exception):
    """A setting that cannot be used; the message names it and says what would be right."""


def _s(description: str, *, ge: float | None = None, le: float | None = None, unit: str = "") -> Meta:
    return Meta(description=description, ge=ge, le=le, extra={"unit": unit})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings with their defaults. Units stand in the names or in the description's `unit`."""

    host: Annotated[str, _s("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, _s("TCP port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8000
    database_url: Annotated[str, _s("sqlite:///relative, sqlite:////absolute or postgresql:// URL.")] = (
        "sqlite:///./sb_data/snackbase.db"
    )
    database_direct_url: Annotated[
        str,
        _s(
            "postgresql:// URL past a transaction pooler (PgBouncer) that DATABASE_URL goes through, for what needs a "
            "session. Empty: there is none."
        ),
    ] = ""
    database_pool_size: Annotated[
        int,
        _s("Connections of this process to PostgreSQL for reads; everything else takes up to 8 more.", ge=2, le=1000),
    ] = 10
    bus_url: Annotated[
        str,
        _s(
            "nats://user:password@host:port or tls://…, several separated by commas: how nodes tell each other what "
            "they committed. Empty: through the database."
        ),
    ] = ""
    bus_prefix: Annotated[
        str, _s("Beginning of the bus's subjects; different for each installation that shares a NATS.")
    ] = "snackbase"
    secret_key: Annotated[
        str, _s("Signs tokens; at least 32 bytes. Empty: generated once into the data folder (mode 0600).")
    ] = ""
    access_token_expire_minutes: Annotated[
        float, _s("Lifetime of an access token.", ge=0.01, le=1440, unit="minutes")
    ] = 60
    refresh_token_expire_days: Annotated[float, _s("Lifetime of a refresh token.", ge=0.001, le=365, unit="days")] = 7
    superadmin_email: Annotated[str, _s("E-mail of the first superadmin.")] = ""
    superadmin_password: Annotated[
        str, _s("Password of the first superadmin. Neither set: generated and printed once.")
    ] = ""
    single_tenant_account: Annotated[str, _s("Slug of the account everybody joins; empty: many accounts.")] = ""
    account_creation: Annotated[Literal["open", "superadmin"], _s("Who may found accounts through /auth/register.")] = (
        "open"
    )
    cors_origins: Annotated[str, _s("Allowed origins, comma-separated, matched exactly.")] = ""
    trusted_proxies: Annotated[
        str, _s("Addresses or networks whose X-Forwarded-* headers are believed, comma-separated.")
    ] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _s("Least severe line that is logged.")] = "info"
    log_format: Annotated[Literal["auto", "json", "console"], _s("json, console, or auto: console on a terminal.")] = (
        "auto"
    )
    metrics_token: Annotated[
        str, _s("When set, /metrics wants it as a bearer token. Empty: open to loopback addresses only.")
    ] = ""
    console_enabled: Annotated[
        bool, _s("false: the admin console at /_/ answers 404; all that it does stays possible.")
    ] = True
    max_body_bytes: Annotated[int, _s("Largest request body.", ge=1024, le=64 << 20, unit="bytes")] = 1 << 20
    request_timeout_seconds: Annotated[
        float, _s("A request's head and body must have arrived within this time.", ge=0.1, unit="seconds")
    ] = 10
    sqlite_synchronous: Annotated[
        Literal["OFF", "NORMAL", "FULL", "EXTRA"], _s("SQLite's durability; below FULL a power cut may lose writes.")
    ] = "FULL"
    write_queue_length: Annotated[int, _s("Transactions that may wait for the writer.", ge=1)] = 10_000
    write_queue_bytes: Annotated[int, _s("Bytes that may wait for the writer.", ge=65536, unit="bytes")] = 64 << 20
    write_queue_account_length: Annotated[int, _s("Transactions of one account that may wait.", ge=1)] = 5_000
    retention_hours: Annotated[
        float,
        _s("Older changes are removed from the change log; positions before them are expired.", ge=0.001, unit="hours"),
    ] = 72
    retention_changes: Annotated[
        int, _s("Changes kept of one account; older ones are removed from the change log.", ge=1)
    ] = 100_000
    retention_bytes: Annotated[
        int,
        _s(
            "Size of all accounts' change logs together; above, the largest ones are shortened first.",
            ge=1 << 16,
            unit="bytes",
        ),
    ] = 2 << 30
    retention_keep: Annotated[int, _s("Newest changes of each account that are kept in any case.", ge=1)] = 1000
    retention_sweep_seconds: Annotated[
        float, _s("Time between two searches for changes to remove from the change log.", ge=0.05, unit="seconds")
    ] = 5
    upgrade_backups: Annotated[
        int, _s("Copies of the database from before upgrades that are kept in backups/; 0: none is made.", ge=0, le=100)
    ] = 3
    query_timeout_seconds: Annotated[float, _s("Deadline of one list query.", ge=0.05, unit="seconds")] = 5
    password_hash_threads: Annotated[int, _s("Password hashes computed at once.", ge=1, le=64)] = 2
    password_hash_queue: Annotated[int, _s("Password hashes that may wait; above: 503.", ge=1)] = 64
    login_attempts_per_minute: Annotated[
        int, _s("Failed logins allowed per user and minute, and ten times as many per address; 0: no limit.", ge=0)
    ] = 10
    realtime_enabled: Annotated[bool, _s("false: both realtime endpoints answer 404.")] = True
    realtime_heartbeat_seconds: Annotated[
        float, _s("Longest time between heartbeats (jittered 80-100 %).", ge=0.05, le=3600, unit="seconds")
    ] = 30
    realtime_max_subscriptions: Annotated[int, _s("Subscriptions of one connection.", ge=1, le=10_000)] = 100
    realtime_max_judged_per_account: Annotated[
        int, _s("Different views of one account that every event has to be judged for (not found by an index).", ge=1)
    ] = 2000
    realtime_max_judged_per_user: Annotated[
        int, _s("Subscriptions of one user that every event has to be judged for.", ge=1)
    ] = 200
    realtime_max_connections: Annotated[
        int, _s("Connections of this process; 0: as many as file descriptors allow.", ge=0)
    ] = 0
    realtime_max_connections_per_user: Annotated[int, _s("Connections of one user; 0: no limit.", ge=0)] = 100
    realtime_max_connections_per_address: Annotated[int, _s("Connections from one address; 0: no limit.", ge=0)] = 0
    realtime_max_message_bytes: Annotated[
        int, _s("Largest message from a client.", ge=1024, le=16 << 20, unit="bytes")
    ] = 65536
    realtime_messages_per_second: Annotated[float, _s("Messages a client may send on average; 0: no limit.", ge=0)] = 20
    realtime_message_burst: Annotated[int, _s("Messages a client may send at once.", ge=1)] = 200
    realtime_outbox_bytes: Annotated[
        int,
        _s(
            "Unsent bytes of one connection, its largest single write not counted; above: closed 4003.",
            ge=16384,
            unit="bytes",
        ),
    ] = 1 << 20
    realtime_outbox_total_bytes: Annotated[
        int,
        _s("Unsent bytes of all connections; above: those with the most are closed 4003.", ge=1 << 20, unit="bytes"),
    ] = 256 << 20
    realtime_stall_seconds: Annotated[
        float,
        _s("A connection with unsent bytes and no progress for this long is closed 4003.", ge=0.1, unit="seconds"),
    ] = 10
    realtime_ping_seconds: Annotated[float, _s("Time between protocol pings.", ge=0.05, unit="seconds")] = 25
    realtime_pong_seconds: Annotated[float, _s("Time a ping may stay unanswered.", ge=0.05, unit="seconds")] = 10
    realtime_auth_seconds: Annotated[float, _s("Time for the first message with a token.", ge=0.05, unit="seconds")] = (
        10
    )
    realtime_echo: Annotated[
        bool, _s("Test mode of the WebSocket endpoint that echoes messages; starts on loopback only.")
    ] = False
    hook_timeout_seconds: Annotated[float, _s("A hook that takes longer is cancelled.", ge=0.01, unit="seconds")] = 5
    hook_threads: Annotated[int, _s("Synchronous hooks that may run at once.", ge=1, le=256)] = 8
    shutdown_delay_seconds: Annotated[
        float,
        _s("Time after SIGTERM in which /ready says 503 and requests are still taken.", ge=0, le=300, unit="seconds"),
    ] = 0
    shutdown_seconds: Annotated[float, _s("Time for a clean stop after SIGTERM.", ge=0, unit="seconds")] = 15

    @property
    def data_dir(self) -> Path:
        """The folder that holds the database file, the secret and backups; the current one for PostgreSQL."""
        if self.database_url.startswith("sqlite:///"):
            return Path(self.database_url.removeprefix("sqlite:///")).parent
        return Path("sb_data")

    @property
    def bound_to_loopback(self) -> bool:
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def setting_names() -> dict[str, msgspec.structs.FieldInfo]:
    """SNACKBASE_* name -> the field it sets."""
    return {PREFIX + field.name.upper(): field for field in msgspec.structs.fields(Settings)}


def load(environ: Mapping[str, str], *, dotenv: Path | None = None, **overrides: object) -> Settings:
    """Build the settings: overrides (command line) over the environment over the `.env` file over the defaults.

    Raises:
        ConfigError: unknown name, value that cannot be read or is out of range.
    """
    known = setting_names()
    texts = {**(_read_dotenv(dotenv) if dotenv is not None else {}), **environ}
    values: dict[str, object] = {}
    for name, text in texts.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            raise _unknown(name, known)
        values[known[name].name] = text
    fields = {info.name for info in known.values()}
    for name in overrides.keys() - fields:
        raise _unknown(name, fields)
    values.update({name: value for name, value in overrides.items() if value is not None})
    settings: dict[str, object] = {}
    for info in msgspec.structs.fields(Settings):
        if info.name in values:
            settings[info.name] = _convert(info, values[info.name])
    return Settings(**settings)  # type: ignore[arg-type]  # each value was converted to its field's type above


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"{name} is not a setting{hint}")


def _convert(info: msgspec.structs.FieldInfo, value: object) -> object:
    if isinstance(value, str):
        value = value.strip()
    try:
        return msgspec.convert(value, info.type, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{PREFIX}{info.name.upper()}: {error}") from None


def _read_dotenv(path: Path) -> dict[str, str]:
    """`NAME=value` lines; `#` starts a comment line; one pair of quotes around a value is taken off."""
    values: dict[str, str] = {}
    if not path.is_file():
        return values
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"{path.name}, line {number}: expected NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values
