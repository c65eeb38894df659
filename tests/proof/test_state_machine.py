"""The state machine over the whole server: it finds nothing in ours, and every defect that is planted.

`PROOF_SECONDS=600` looks for so long, with other examples every time.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from proof.livelist import Difference
from tests.proof import plants
from tests.proof.machine import SETTINGS, Machine, Stage
from tests.support.nodes import Nodes

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PROOF_SECONDS", "0"))
EXAMPLES, STEPS = 10, 25
ON_NODES_EXAMPLES = 4
HOSTILE = 0.1
"""Each event that is lost at the end of an account's log is found after 1.5 s only, by looking."""
QUICK = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking starts the server many times; the steps that are printed are short enough.
    phases=[Phase.generate],
)


@pytest.fixture(params=[2, 3])
def nodes(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> Iterator[Stage]:
    """Nodes that lose, double and delay hints."""
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("SQLITE")}
    site = Nodes(tmp_path, request.param, database_url=postgres_url, settings=settings, hostile=HOSTILE)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(site.__aenter__())
    made = Stage(site.servers, loop)
    made.open()
    yield made
    made.do(site.__aexit__())
    made.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Our server as it is."""
    made = Stage.alone(tmp_path)
    made.open()
    yield made
    made.close()


def explore(stage: Stage, how: settings, *, base: type[Machine] = Machine, **more: object) -> None:
    """Run the machine. Raises what went wrong first, whether or not the same steps do it again."""
    try:
        run_state_machine_as_test(type("MachineOnAStage", (base,), {"stage": stage, **more}), settings=how)
    except Exception:
        if stage.failure is not None:
            raise stage.failure from None
        raise


def test_every_client_gets_what_was_committed_and_visible_once_and_in_order(stage: Stage) -> None:
    explore(stage, QUICK)


def test_the_same_whichever_node_a_client_comes_to(nodes: Stage) -> None:
    explore(nodes, settings(QUICK, max_examples=ON_NODES_EXAMPLES))
    ends = time.monotonic() + SECONDS / 2
    while time.monotonic() < ends:
        explore(nodes, settings(QUICK, derandomize=False, max_examples=20))


@pytest.mark.skipif(not SECONDS, reason="PROOF_SECONDS is not set")
def test_the_same_for_as_long_as_asked(stage: Stage) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        explore(stage, settings(QUICK, derandomize=False, max_examples=50))


@pytest.mark.parametrize("plant", plants.PLANTS)
def test_a_planted_defect_is_found(tmp_path: Path, plant: str) -> None:
    shutil.copy(plants.__file__, tmp_path / "plants.py")
    stage = Stage.alone(tmp_path, arguments=("serve", "plants:app"), plant=plant)
    stage.open()
    try:
        with pytest.raises(Difference):
            explore(stage, settings(QUICK, max_examples=60), most_kills=0)
    finally:
        stage.close()
