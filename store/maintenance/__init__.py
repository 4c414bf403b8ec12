"""Check a store, repair it, drop what is no longer needed."""

from store.maintenance.mending import MENDABLE, mend
from store.maintenance.pruning import Prunable, prunable, prune
from store.maintenance.verification import verify

__all__ = [
    "MENDABLE",
    "Prunable",
    "mend",
    "prunable",
    "prune",
    "verify",
]
