"""References: what a pass carries of a checkpoint opens the same one in another process."""

from __future__ import annotations

import pickle
from pathlib import Path

from engine.sources.announcements import Announcements
from engine.sources.base import Checkpoint, Reference
from engine.sources.local import LocalSource
from engine.study_file.models_section import ModelSection
from seedconv_tui.training.announcing import HELD, announce
from tests.support.tiny_models import make_runs


def sent(checkpoint: Checkpoint) -> Reference:
    """Return its reference as another process gets it."""
    reference: Reference = pickle.loads(pickle.dumps(checkpoint.reference()))
    return reference


def test_a_source_that_never_looked_opens_what_another_has_found(tmp_path: Path) -> None:
    model = ModelSection.model_validate({"name": "m", "source": "s{seed}/*-step_{step}"})
    folder = tmp_path / "s1/epoch=3-step_20"
    folder.mkdir(parents=True)
    looking, elsewhere = LocalSource(model, tmp_path), LocalSource(model, tmp_path)
    assert looking.find().there == {("1", 20)}
    found = looking.checkpoint(("1", 20))
    opened = elsewhere.reopen(sent(found))
    assert opened.key == ("1", 20)
    assert opened.fetch() == folder
    assert opened.where() == found.where() == str(folder)
    assert elsewhere.reopen(sent(opened)).fetch() == folder  # also at third hand
    assert looking.reopen(sent(found)) is found


def test_a_held_copy_is_read_elsewhere_too_and_only_while_it_is_referred_to(
    tmp_path: Path,
) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    folder = tmp_path / "runs/seed1/step0"
    model = ModelSection.model_validate({"name": "m", "source": "runs/seed{seed}/step{step}"})
    announced = Announcements(tmp_path / "a", {"m": None}, lambda: 0.0)
    looking = LocalSource(model, tmp_path, lambda: 0.0, announcements=announced)
    elsewhere = LocalSource(model, tmp_path)
    looking.find()
    plain = sent(looking.checkpoint(("1", 0)))
    announce(tmp_path / "a", model="m", seed=1, step=0, path=folder, hold=True)
    assert list(announced.look()) == []
    looking.find()
    held = sent(looking.checkpoint(("1", 0)))
    assert elsewhere.reopen(plain).fetch() == folder
    assert HELD in elsewhere.reopen(held).fetch().parts
    assert elsewhere.reopen(plain).fetch() == folder
