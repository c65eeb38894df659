"""deploy/alerts.yml: every number and word that it asks for exists, and every alert leads to what is to be done."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it comes without types

from snackbase.errors import CLOSINGS
from snackbase.hub.polling import GONE
from snackbase.metrics import render_all
from snackbase.storage.postgres.store import PostgresStore
from tests.docs import pages
from tests.docs.pages import ROOT
from tools import docs

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
WORDS = {
    "code": set(CLOSINGS),
    "reason": set(GONE),
    "result": {"opened", *CLOSINGS},
    "status": {"500"},
}


def published() -> set[str]:
    """Every name that a scrape may hold, on SQLite and PostgreSQL, with and without workers."""
    names = set()
    for family in docs._families():
        ending = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {f"{family.name}{one}" for one in ending}
    names |= {f"snackbase_store_{name}" for name in PostgresStore("postgresql://x/x").stats()}
    return names | set(re.findall(r"^# TYPE (\w+)", render_all({}).decode(), re.MULTILINE))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_numbers_and_words_that_exist(rule: dict[str, Any]) -> None:
    names = set(re.findall(r"snackbase_\w+", rule["expr"]))

    assert names
    assert names - published() == set()
    for label, word in re.findall(r'(\w+)="(\w+)"', rule["expr"]):
        assert word in WORDS[label], f"{label}={word}"
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert re.search(r" (>|==|<) ", rule["expr"]), "it would always or never be true"


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_what_is_wrong_and_where_stands_what_to_do(rule: dict[str, Any]) -> None:
    headings = re.findall(r"^### (.+)$", pages.page("docs/howto/troubleshooting.md").text, re.MULTILINE)

    assert rule["annotations"]["runbook"] in [heading.replace("`", "") for heading in headings]
    assert len(rule["annotations"]["summary"]) > 20
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_no_two_alerts_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES) > 10
