"""What a block of log-probs moves through a GPU's memory, counted where there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.block_traffic import count_block


def test_the_plain_way() -> None:
    found = count_block(compiled=False)
    assert 100 < found["bytes_per_log_prob"] < 205
    assert found["kernels"] < 210
    # What no way can do without: a product and a softmax that are written, and read again.
    assert found["most"]["log_softmax"] == 8


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)
@pytest.mark.parametrize("names", [("kl", "js"), ("kl", "js", "hellinger", "tv")])
def test_compiled_sums_read_log_probs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """However many divergences there are."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    found = count_block(compiled=True, names=names)
    assert found["bytes_per_log_prob"] < 72
    assert found["kernels"] < 110
