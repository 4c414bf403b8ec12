"""Every kind of file, damaged in every way: nothing wrong is read, and what can be is restored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.damage_campaign import KINDS, WAYS, play, table

pytestmark = pytest.mark.long

DAMAGES = 300 if os.environ.get("SEEDCONV_SOAK") else 24
SEED = 20_261_130


def test_damage_is_named_and_what_can_be_is_restored(tmp_path: Path) -> None:
    outcomes = play(tmp_path, DAMAGES, SEED)
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    assert not wrong, "\n".join(map(str, wrong)) + "\n" + table(outcomes)
    if 2 * len(KINDS) * len(WAYS) < DAMAGES:
        assert {outcome.kind for outcome in outcomes} == set(KINDS)
        assert {outcome.way for outcome in outcomes} == set(WAYS)
