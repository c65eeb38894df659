"""The state machine over nodes on PostgreSQL with faults between them: it finds nothing in ours, and planted defects.

`PROOF_SECONDS=600 PROOF_NODES=3` looks for so long, with other examples every time.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from proof.livelist import Difference
from tests.proof import plants
from tests.proof.cluster import ClusterMachine, ClusterStage
from tests.proof.test_state_machine import QUICK, SECONDS, explore
from tests.support.postgres import Cluster

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("PROOF_NODES", "2"))
SHORT = settings(QUICK, max_examples=3, stateful_step_count=16)
ELSEWHERE = ("loss", "duplicate", "reorder", "leak of another account", "leak past a rule", "loss on replay")
"""Found on one server in every run; on nodes when somebody looks for longer."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[ClusterStage]:
    """Our nodes as they are, with a database that may be killed."""
    database = Cluster(settings={"fsync": "on", "full_page_writes": "on"})
    try:
        database.start()
        made = ClusterStage(tmp_path, database, count=COUNT)
        made.open()
        yield made
        made.close()
    finally:
        database.remove()


def test_clients_of_all_nodes_get_what_was_committed_and_visible_once_and_in_order(stage: ClusterStage) -> None:
    explore(stage, SHORT, base=ClusterMachine)


@pytest.mark.skipif(not SECONDS, reason="PROOF_SECONDS is not set")
def test_the_same_on_nodes_for_as_long_as_asked(stage: ClusterStage) -> None:
    ends = time.monotonic() + SECONDS
    examples = 0
    while time.monotonic() < ends:
        explore(stage, settings(SHORT, derandomize=False, max_examples=5), base=ClusterMachine, most_kills=2)
        examples += 5
    print(f"{examples} examples of {SHORT.stateful_step_count} steps on {COUNT} nodes")


@pytest.mark.parametrize("plant", [*plants.AMONG_NODES, *(ELSEWHERE if SECONDS else ())])
def test_a_defect_that_is_planted_in_nodes_is_found(tmp_path: Path, postgres: Cluster, plant: str) -> None:
    stage = ClusterStage(tmp_path, postgres, count=COUNT, plant=plant)
    stage.open()
    try:
        with pytest.raises(Difference):
            explore(
                stage,
                settings(SHORT, max_examples=60),
                base=ClusterMachine,
                most_kills=0,
                most_restarts=0,
                most_pauses=0,
            )
    finally:
        stage.close()
