"""The state machine over the whole server: it finds nothing in ours, and every defect that is planted.

`PROOF_SECONDS=600` looks for so long, with other examples every time.
"""

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
from tests.proof.machine import Machine, Stage

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PROOF_SECONDS", "0"))
EXAMPLES, STEPS = 10, 25
QUICK = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking starts the server many times; the steps that are printed are short enough.
    phases=[Phase.generate],
)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Our server as it is."""
    made = Stage(tmp_path)
    made.open()
    yield made
    made.close()


def explore(stage: Stage, how: settings, **more: object) -> None:
    """Run the machine. Raises what went wrong first, whether or not the same steps do it again."""
    try:
        run_state_machine_as_test(type("MachineOnAStage", (Machine,), {"stage": stage, **more}), settings=how)
    except Exception:
        if stage.failure is not None:
            raise stage.failure from None
        raise


def test_every_client_gets_what_was_committed_and_visible_once_and_in_order(stage: Stage) -> None:
    explore(stage, QUICK)


@pytest.mark.skipif(not SECONDS, reason="PROOF_SECONDS is not set")
def test_the_same_for_as_long_as_asked(stage: Stage) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        explore(stage, settings(QUICK, derandomize=False, max_examples=50))


@pytest.mark.parametrize("plant", plants.PLANTS)
def test_a_planted_defect_is_found(tmp_path: Path, plant: str) -> None:
    shutil.copy(plants.__file__, tmp_path / "plants.py")
    stage = Stage(tmp_path, arguments=("serve", "plants:app"), plant=plant)
    stage.open()
    try:
        with pytest.raises(Difference):
            explore(stage, settings(QUICK, max_examples=60), most_kills=0)
    finally:
        stage.close()
