"""The section [limits] of a study file: how much of the machine the engine may take."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from engine.study_file.section import Section

_Gigabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # of 1e9 bytes
_Percent = Annotated[float, Field(gt=0, le=100)]


class LimitsSection(Section):
    """Limits on a machine that also trains. A limit that is left out does not apply."""

    nice: int | None = Field(default=None, ge=0, le=19)
    """CPU priority, 19 the least; the disk's follows it"""
    threads: int | None = Field(default=None, ge=1)
    """threads that compute at once, all processes of the engine together"""
    memory_gb: _Gigabytes | None = None
    """host memory of all processes together, GB: batches are chosen to fit, what cannot fit is
    refused
    """
    gpu_memory_gb: _Gigabytes | None = None
    """memory of each GPU, GB"""
    gpu_below: _Percent | None = None
    """score only while other processes use less of a GPU's time, percent"""
    cpu_below: _Percent | None = None
    """score only while other processes use less of all cores' time, percent"""

    def shared(self, processes: int, on_one_gpu: int, taken: int) -> Self:
        """Return what each of several processes may take.

        `on_one_gpu` of them work on the same GPU, `taken` bytes of memory are another's.
        """
        left = None if self.memory_gb is None else self.memory_gb - taken / 1e9
        return self.model_copy(
            update={
                "threads": self.threads and max(1, self.threads // processes),
                "memory_gb": None if left is None else max(left, 1e-3) / processes,
                "gpu_memory_gb": self.gpu_memory_gb and self.gpu_memory_gb / on_one_gpu,
            }
        )


NO_LIMITS = LimitsSection()
