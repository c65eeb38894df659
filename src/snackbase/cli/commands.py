"""Every command of `snackbase` with its options. What a command does stands beside it or in its own module.

A setting that cannot be used ends a command with one line and exit code 2, any other known fault with one line and 1.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import apsw
import click

from snackbase.app import Core, database_file
from snackbase.cli import doctor as checks
from snackbase.cli import explain as why
from snackbase.cli import serve as server
from snackbase.cli import tail as stream
from snackbase.cli.dev import Supervisor
from snackbase.cli.moving import migrate_data
from snackbase.cli.offline import OPERATOR, with_core
from snackbase.cli.porting import collections, records
from snackbase.config import ConfigError, load
from snackbase.errors import SnackBaseError, Unavailable
from snackbase.model import SYSTEM_ACCOUNT_SLUG
from snackbase.storage.backup import back_up
from snackbase.storage.postgres.link import reason_of
from snackbase.web.ops import VERSION


class Commands(click.Group):
    """A group that tells known faults in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"snackbase: {error}", err=True)
            ctx.exit(server.MISUSED)
        except (SnackBaseError, stream.Refused) as error:
            # What a client must not know, whoever runs the server has to: an address, a certificate, a wrong password.
            why = f" ({reason_of(error)})" if isinstance(error, Unavailable) and error.__cause__ is not None else ""
            click.echo(f"snackbase: {error}{why}", err=True)
            ctx.exit(server.FAILED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="snackbase")
def main() -> None:
    """Records behind REST, every committed change over WebSocket and Server-Sent Events.

    Settings come from SNACKBASE_* variables and from the file .env in the current folder.
    """


@main.command()
@click.argument("app", required=False)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--takeover", is_flag=True, help="Take the place of the server that runs on the data folder, if any.")
@click.option("--dev", is_flag=True, help="Restart when your code or .env changes; refusals say why.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of processes; needs PostgreSQL."
)
@click.option("--supervised", type=int, hidden=True)
@click.option("--worker", type=int, hidden=True)
@click.option("--place", type=click.Path(path_type=Path), hidden=True)
@click.option("--announcing", is_flag=True, hidden=True)
def serve(app: str | None, **how: Any) -> None:
    """Start the server. APP names an application of your own: main:app.

    With --takeover, the new process takes over the listening sockets of the running one. Once it accepts connections,
    the old one stops. No request fails meanwhile, and realtime clients resume from their positions.

    With --dev, the server does that by itself whenever a Python file below the current folder or .env changes. Answers
    to refusals and faults say why, and pages on this machine may call the server. Not for production.

    With --workers, several processes serve one port, each a node of its own; SIGHUP replaces them one by one.
    """
    if how["dev"] and how["supervised"] is None:
        named = [("--host", how["host"]), ("--port", how["port"])]
        given = [word for option, value in named if value is not None for word in (option, str(value))]
        sys.exit(Supervisor([*([app] if app else []), *given, "--dev"]).run())
    sys.exit(server.run(app, **how))


@main.command("create-superadmin")
@click.argument("email")
@click.option("--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when not given.")
def create_superadmin(email: str, password: str) -> None:
    """Create another superadmin: a user of the system account."""

    async def work(core: Core) -> None:
        user = await core.members.create_user(
            OPERATOR, email=email, password=password, account=SYSTEM_ACCOUNT_SLUG, role="admin"
        )
        click.echo(f"superadmin {user.email} ({user.id})")

    with_core(work)


@main.command("create-account")
@click.argument("name")
@click.option("--slug", help="The name that users log in with; derived from NAME when not given.")
def create_account(name: str, slug: str | None) -> None:
    """Create an account: a tenant with users and records of its own."""

    async def work(core: Core) -> None:
        account = await core.members.create_account(OPERATOR, name=name, slug=slug)
        click.echo(f"account {account.slug} ({account.account_code}, {account.id})")

    with_core(work)


@main.command("create-user")
@click.argument("email")
@click.option("--account", required=True, help="Slug, code or id of the account.")
@click.option("--role", default="user", show_default=True, help="Role of the user: admin, user or one of your own.")
@click.option("--group", "groups", multiple=True, help="A group that the user belongs to; may be repeated.")
@click.option("--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when not given.")
def create_user(email: str, account: str, role: str, groups: tuple[str, ...], password: str) -> None:
    """Create a user in an account."""

    async def work(core: Core) -> None:
        user = await core.members.create_user(
            OPERATOR, email=email, password=password, account=account, role=role, groups=list(groups)
        )
        click.echo(f"user {user.email} ({user.id})")

    with_core(work)


@main.command()
@click.argument("email")
@click.option("--account", default=SYSTEM_ACCOUNT_SLUG, show_default=True, help="Slug, code or id of the account.")
def token(email: str, account: str) -> None:
    """Print an access token of a user, for scripts.

    Needs access to the data folder instead of a password. The token is a login of its own, and expires like any other.
    """

    async def work(core: Core) -> None:
        click.echo((await core.accounts.login_without_password(email=email, account=account)).token)

    with_core(work)


@main.command()
def doctor() -> None:
    """Check everything that a start needs. The exit code is 1 when something has to be repaired."""
    findings = list(checks.examine(load(os.environ, dotenv=Path(".env"))))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = {True: "ok  ", False: "BAD ", None: "note"}[finding.ok]
        click.echo(f"{mark}  {finding.what.ljust(width)}  {finding.text}")
    if any(finding.ok is False for finding in findings):
        sys.exit(server.FAILED)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def backup(path: Path) -> None:
    """Copy the database to the new file PATH, while a server runs on it or not.

    When the copy is restored, a new history begins: every client is told `resync` once. The copy does not contain the
    file `secret` beside the database; without that file, all logins end.
    """
    database = database_file(load(os.environ, dotenv=Path(".env")))
    try:
        back_up(database, path)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already; nothing was written.") from None
    except (OSError, apsw.Error) as error:
        raise click.ClickException(f"{database} could not be copied to {path}: {error}") from None
    click.echo(f"{path} ({path.stat().st_size} bytes)")


@main.command()
@click.argument("collections", nargs=-1)
@click.option("--url", help="The server; by default the one of the settings.")
@click.option("--token", "given", envvar="SB_TOKEN", help="An access token (or in SB_TOKEN); - reads it from stdin.")
@click.option("--since", help="A position: begin with what came after it.")
@click.option("--json", "raw", is_flag=True, help="Print every message as it comes, one JSON object per line.")
def tail(collections: tuple[str, ...], url: str | None, given: str | None, since: str | None, raw: bool) -> None:
    """Show events as they come; without COLLECTIONS, those of every collection that the token may list."""
    token, url = _token(given), _server(url)

    def show(message: stream.Message) -> None:
        text = stream.shown(message, raw=raw)
        if text is not None:
            click.echo(text)

    try:
        stream.follow(url, token, collections or ("*",), since=since, show=show)
    except KeyboardInterrupt:
        sys.exit(0)


@main.command()
@click.argument("record", required=False)
@click.option("--position", help="Instead of RECORD: the change with this position.")
@click.option("--collection", help="The collection of RECORD.")
@click.option("--user", help="Id or e-mail of the user who should have received it.")
@click.option("--connection", help="Id of the connection that should have received it.")
@click.option("--account", help="For superadmins: the account, by slug or code.")
@click.option("--url", help="The server; by default the one of the settings.")
@click.option(
    "--token", "given", envvar="SB_TOKEN", help="An administrator's token (or in SB_TOKEN); - reads it from stdin."
)
@click.option("--json", "raw", is_flag=True, help="Print the server's answer as it is.")
def explain(
    record: str | None,
    url: str | None,
    given: str | None,
    account: str | None,
    raw: bool,
    **question: str | None,
) -> None:
    """Say why the last change of RECORD reached a user or connection, or did not.

    For each subscription it names the cause: its operations, its filter, the list rule, rights that are being judged
    again, or a client that reads too slowly. Or it says that nobody was connected, and how the last connection ended.
    """
    if (record is None) == (question["position"] is None):
        raise click.UsageError("give either RECORD, the id of a record, or --position")
    if question["user"] is None and question["connection"] is None:
        raise click.UsageError("whose? give --user or --connection")
    asked = {name: value for name, value in {"record_id": record, **question}.items() if value is not None}
    answer = why.ask(_server(url), _token(given), asked, account=account)
    click.echo(json.dumps(answer) if raw else "\n".join(why.told(answer)))


def _token(given: str | None) -> str:
    if given == "-":
        given = sys.stdin.readline().strip()
    if not given:
        raise click.UsageError("a token is needed: --token, SB_TOKEN, or --token - to read it from stdin")
    return given


def _server(url: str | None) -> str:
    if url is not None:
        return url
    settings = load(os.environ, dotenv=Path(".env"))
    return f"http://{settings.host}:{settings.port}"


main.add_command(collections)
main.add_command(migrate_data)
main.add_command(records)
