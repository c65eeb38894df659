"""`snackbase serve tests.proof.hostile_plants:app`: a node with a planted defect that hears its neighbours badly."""

from tests.proof.plants import app
from tests.support import hostile

__all__ = ("app", "hostile")
