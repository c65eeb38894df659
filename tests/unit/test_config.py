"""Settings: where they come from, and how a wrong one is refused (contract §10)."""

from pathlib import Path
from typing import Any

import pytest

from snackbase.config import ConfigError, Settings, load, setting_names


def test_the_defaults_are_the_contracts() -> None:
    settings = load({})

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_url == "sqlite:///./sb_data/snackbase.db"
    assert (settings.access_token_expire_minutes, settings.refresh_token_expire_days) == (60, 7)
    assert settings.realtime_enabled
    assert (settings.realtime_heartbeat_seconds, settings.realtime_max_subscriptions) == (30, 100)
    assert (settings.realtime_ping_seconds, settings.realtime_pong_seconds) == (25, 10)
    assert (settings.realtime_auth_seconds, settings.realtime_max_message_bytes) == (10, 64 << 10)
    assert (settings.realtime_outbox_bytes, settings.realtime_stall_seconds) == (1 << 20, 10)
    assert (settings.retention_hours, settings.retention_changes, settings.retention_keep) == (72, 100_000, 1000)
    assert settings.hook_timeout_seconds == 5
    nothing = (settings.secret_key, settings.superadmin_email, settings.superadmin_password, settings.cors_origins)
    assert nothing == ("", "", "", "")
    assert settings == Settings()


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("SNACKBASE_PORT=1\nSNACKBASE_HOST=from-file\nSNACKBASE_LOG_LEVEL=error\n")
    environ = {"SNACKBASE_PORT": "2", "SNACKBASE_HOST": "from-environment"}
    settings = load(environ, dotenv=dotenv, port=3, host=None)

    assert (settings.port, settings.host, settings.log_level) == (3, "from-environment", "error")
    assert settings.log_format == "auto"


def test_a_dotenv_file_may_hold_comments_quotes_exports_and_other_programs_names(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# a comment\n\nexport SNACKBASE_HOST='quoted host'\n"
        'SNACKBASE_SUPERADMIN_PASSWORD = "with = and # signs"\nOTHER=1\n'
    )
    settings = load({}, dotenv=dotenv)

    assert (settings.host, settings.superadmin_password) == ("quoted host", "with = and # signs")


def test_a_dotenv_line_that_is_none_is_named_without_being_shown(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("SNACKBASE_PORT=1\na secret that was pasted\n")

    with pytest.raises(ConfigError, match=r"\.env, line 2: expected NAME=value") as error:
        load({}, dotenv=dotenv)
    assert "secret" not in str(error.value)


def test_a_missing_dotenv_file_is_no_error(tmp_path: Path) -> None:
    assert load({}, dotenv=tmp_path / ".env") == Settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SNACKBASE_PROT", "; did you mean SNACKBASE_PORT?"),
        ("SNACKBASE_CORS_ORIGIN", "; did you mean SNACKBASE_CORS_ORIGINS?"),
        ("SNACKBASE_REALTIME_HEARTBEAT_SECOND", "; did you mean SNACKBASE_REALTIME_HEARTBEAT_SECONDS?"),
        ("SNACKBASE_" + "Q" * 40, ""),
    ],
)
def test_an_unknown_setting_is_an_error_that_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({name: "1"})

    assert str(error.value) == f"{name} is not a setting{hint}"


def test_an_unknown_override_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load({}, cors_origin="*")

    assert str(error.value) == "cors_origin is not a setting; did you mean cors_origins?"


def test_names_of_other_programs_are_left_alone() -> None:
    assert load({"PORT": "1", "snackbase_port": "2", "XSNACKBASE_PORT": "3"}).port == 8000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SNACKBASE_PORT", "http"),
        ("SNACKBASE_PORT", "65536"),
        ("SNACKBASE_PORT", "-1"),
        ("SNACKBASE_PORT", ""),
        ("SNACKBASE_REALTIME_ENABLED", "perhaps"),
        ("SNACKBASE_REALTIME_HEARTBEAT_SECONDS", "0"),
        ("SNACKBASE_REALTIME_HEARTBEAT_SECONDS", "nan"),
        ("SNACKBASE_REALTIME_MAX_SUBSCRIPTIONS", "0"),
        ("SNACKBASE_SQLITE_SYNCHRONOUS", "full"),
        ("SNACKBASE_LOG_LEVEL", "loud"),
        ("SNACKBASE_ACCOUNT_CREATION", "closed"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_setting(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        load({name: text})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False), (" 1 ", True)])
def test_booleans_are_read_as_people_write_them(text: str, value: bool) -> None:
    assert load({"SNACKBASE_REALTIME_ENABLED": text}).realtime_enabled is value


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("sqlite:///./sb_data/snackbase.db", "sb_data"),
        ("sqlite:////srv/data/snackbase.db", "/srv/data"),
        ("postgresql://db.example/snackbase", "sb_data"),
    ],
)
def test_the_data_folder_is_where_the_database_is(url: str, folder: str) -> None:
    assert Settings(database_url=url).data_dir == Path(folder)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("10.0.0.1", False), ("", False)]
)
def test_bound_to_loopback_is_told_by_the_host(host: str, loopback: bool) -> None:
    assert Settings(host=host).bound_to_loopback is loopback


def test_every_setting_has_a_description_and_can_be_set_by_its_name() -> None:
    written: dict[str, Any] = {name: str(getattr(Settings(), info.name)) for name, info in setting_names().items()}

    assert load(written) == Settings()
    for name, info in setting_names().items():
        assert getattr(info.type, "__metadata__", None) or info.type, name
