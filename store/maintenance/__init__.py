"""Check a store, repair it, drop what is no longer needed, bring it to the present format."""

from store.maintenance.irreplaceable import lost_by_mending
from store.maintenance.mending import LOST_FOR_GOOD, MENDABLE, mend
from store.maintenance.migration import Migrated, migrate
from store.maintenance.pruning import Prunable, prunable, prune
from store.maintenance.verification import verify

__all__ = [
    "LOST_FOR_GOOD",
    "MENDABLE",
    "Migrated",
    "Prunable",
    "lost_by_mending",
    "mend",
    "migrate",
    "prunable",
    "prune",
    "verify",
]
