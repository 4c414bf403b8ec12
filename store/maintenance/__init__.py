"""Check a store, repair it, drop what is no longer needed."""

from store.maintenance.mending import LOST_FOR_GOOD, MENDABLE, mend
from store.maintenance.pruning import Prunable, prunable, prune
from store.maintenance.verification import verify

__all__ = [
    "LOST_FOR_GOOD",
    "MENDABLE",
    "Prunable",
    "mend",
    "prunable",
    "prune",
    "verify",
]
