"""The machine finds no fault in the server, and finds every one that is planted.

`VISIBILITY_SECONDS=600` looks for so long, with other examples every time.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.visibility import plants
from tests.visibility.followers import Fault
from tests.visibility.machine import Machine, Stage

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("VISIBILITY_SECONDS", "0"))
QUICK = settings(
    max_examples=12,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking runs the server many times; the steps that are printed are short enough.
    phases=[Phase.generate],
)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.open()
    yield made
    made.close()


def explore(stage: Stage, how: settings) -> None:
    """Run the machine. Raises what went wrong first, whether or not the same steps do it again."""
    try:
        run_state_machine_as_test(type("MachineOnAStage", (Machine,), {"stage": stage}), settings=how)
    except Exception:
        if stage.failure is not None:
            raise stage.failure from None
        raise


def test_every_list_equals_rest_and_no_frame_holds_what_its_reader_never_saw(stage: Stage) -> None:
    explore(stage, QUICK)


@pytest.mark.skipif(not SECONDS, reason="VISIBILITY_SECONDS is not set")
def test_the_same_for_as_long_as_asked(stage: Stage) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        explore(stage, settings(QUICK, derandomize=False, max_examples=20))


@pytest.mark.parametrize("plant", plants.PLANTS)
def test_a_planted_defect_is_found(tmp_path: Path, plant: str) -> None:
    shutil.copy(plants.__file__, tmp_path / "plants.py")
    stage = Stage(tmp_path, arguments=("serve", "plants:app"), plant=plant)
    stage.open()
    try:
        with pytest.raises(Fault):
            explore(stage, settings(QUICK, max_examples=2000 if SECONDS else 200))
    finally:
        stage.close()
