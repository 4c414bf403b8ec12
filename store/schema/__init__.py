"""What a study is, in memory: names of arrays, variables, snapshots, checksums. No I/O."""

from store.schema.array_types import Floats
from store.schema.builtin_categories import CATEGORIES, CHARTED, CHOSEN_BY_NAME
from store.schema.category import ALL, CONTEXT, Category
from store.schema.corpus import Corpus, Vocabulary
from store.schema.damage import Damage, Part
from store.schema.keys import CheckpointName, Key
from store.schema.layout import (
    ARRAYS,
    COMMITS,
    FORMAT,
    PERCENTILES,
    SUMMARIES,
    SUMMARY,
    TOP,
    VARIABLES,
    log_prob_rows,
    log_probs_path,
    model_path,
    safe_name,
)
from store.schema.output_layer import OutputLayer, Representation
from store.schema.pair_metrics import DIVERGENCES, KL, MORE_METRICS, PAIR_METRICS, PairMetric
from store.schema.probe import Probe, ProbeValues
from store.schema.schedule import Schedule, Schedules, of_model, read_schedules
from store.schema.snapshot import (
    ACTIVE_STATES,
    UNDECIDED,
    EngineStatus,
    Failure,
    Gpu,
    JournalEntry,
    ModelSnapshot,
    Phase,
    State,
    StudySnapshot,
    Work,
)

__all__ = [
    "ACTIVE_STATES",
    "ALL",
    "ARRAYS",
    "CATEGORIES",
    "CHARTED",
    "CHOSEN_BY_NAME",
    "COMMITS",
    "CONTEXT",
    "DIVERGENCES",
    "FORMAT",
    "KL",
    "MORE_METRICS",
    "PAIR_METRICS",
    "PERCENTILES",
    "SUMMARIES",
    "SUMMARY",
    "TOP",
    "UNDECIDED",
    "VARIABLES",
    "Category",
    "CheckpointName",
    "Corpus",
    "Damage",
    "EngineStatus",
    "Failure",
    "Floats",
    "Gpu",
    "JournalEntry",
    "Key",
    "ModelSnapshot",
    "OutputLayer",
    "PairMetric",
    "Part",
    "Phase",
    "Probe",
    "ProbeValues",
    "Representation",
    "Schedule",
    "Schedules",
    "State",
    "StudySnapshot",
    "Vocabulary",
    "Work",
    "log_prob_rows",
    "log_probs_path",
    "model_path",
    "of_model",
    "read_schedules",
    "safe_name",
]
