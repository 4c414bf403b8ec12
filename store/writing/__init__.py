"""Writers of the coordinator and of its workers, and recovery after a crash."""

from store.commits.log import log_file
from store.commits.owner import Watching
from store.writing.cells import CellWriter
from store.writing.create import Header, refuse_mismatch
from store.writing.pending import CheckpointResult, PairsResult, PendingCheckpoint, PendingPairs
from store.writing.summary_writer import StepSummary
from store.writing.writer import StudyWriter

__all__ = [
    "CellWriter",
    "CheckpointResult",
    "Header",
    "PairsResult",
    "PendingCheckpoint",
    "PendingPairs",
    "StepSummary",
    "StudyWriter",
    "Watching",
    "log_file",
    "refuse_mismatch",
]
