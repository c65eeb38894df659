"""The standing proof in short: `make proof` runs the same for half an hour, with another seed every time."""

from pathlib import Path
from types import ModuleType

import pytest

from proof.run import Plan, Run

pytestmark = pytest.mark.slow


async def test_every_live_list_stays_equal_to_what_every_node_says_through_faults_between_nodes(
    tmp_path: Path, nginx: ModuleType
) -> None:
    plan = Plan(
        seed=20261124,
        seconds=20,
        round_s=8,
        nodes=3,
        bus=True,
        pause_s=3,
        sockets=3,
        streams=2,
        writers=2,
        writes_per_s=30,
        browser=False,
    )

    outcome = await Run(plan, tmp_path).prove()

    assert outcome.checkpoints >= 2
    assert outcome.answers == 3 * outcome.lists > 0
    assert outcome.records > 0
    assert outcome.acknowledged > 0


async def test_every_live_list_stays_equal_to_rest_through_kills_faults_and_changes_of_rights(
    tmp_path: Path, nginx: ModuleType
) -> None:
    """Raises Difference with the seed's choices and what the list saw last."""
    plan = Plan(seed=20261123, seconds=28, round_s=9, sockets=3, streams=2, writers=2, writes_per_s=30)

    outcome = await Run(plan, tmp_path).prove()

    assert outcome.checkpoints >= 3
    assert outcome.lists > 0
    assert outcome.records > 0
    assert outcome.acknowledged > 0
