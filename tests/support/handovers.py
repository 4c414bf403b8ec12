"""What a training run hands over, written by hand: formats alone, and none of what captures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seedconv_tui.training.announcing import announcements_folder
from seedconv_tui.training.handover import CapturedProbe, Handover, SpooledFile, run_folder
from seedconv_tui.training.windows import plan_windows
from seedconv_tui.training.work_order import ORDER_FILE, Sequences, WorkOrder, read_order


def ordered(study: Path) -> WorkOrder:
    """The work order that the engine has published."""
    return read_order(announcements_folder(study) / ORDER_FILE)


@torch.no_grad()
def rows_by_window(
    model: Any, text: Sequences, order: WorkOrder, *, dense: bool
) -> list[NDArray[Any]]:
    """Hidden states, or log-probs in float16, of every window's predictions."""
    found, parts = [], list(text.split())
    for window in plan_windows(text.lengths.tolist(), order.window, order.overlap):
        ids, predicts = parts[window.sequence]
        inputs = torch.from_numpy(ids[window.start : window.stop].astype(np.int64))[None]
        out = model(inputs, output_hidden_states=True)
        places = np.flatnonzero(predicts[window.first : window.last]) + window.first - window.start
        if dense:
            rows = out.logits[0, places, : order.vocab].float().log_softmax(-1).half()
        else:
            rows = out.hidden_states[-1][0, places].float()
        found.append(rows.numpy())
    return found


def hand_over(
    study: Path,
    model: Any,
    seed: str,
    step: int,
    *,
    name: str = "m",
    ranks: int = 1,
    dense: bool = False,
    probes: bool = True,
    announced: bool = True,
    **changes: Any,
) -> Path:
    """Write what `model` says of the study's text, and the letter; return the folder.

    `changes` are fields of `capture.json` that are not as they should be.
    """
    model.eval()
    order = ordered(study)
    folder = run_folder(announcements_folder(study), name, seed) / str(step)
    folder.mkdir(parents=True)
    asked = list(order.probes) if probes else []
    texts = {"rows": order.text}
    texts |= {f"probe{n}": order.probes[probe] for n, probe in enumerate(asked)}
    arrays: dict[str, NDArray[Any]] = {}
    for what, text in texts.items():
        windows = rows_by_window(model, text, order, dense=dense)
        for rank in range(ranks):
            empty = windows[0][:0]
            arrays[f"{what}-{rank}"] = np.concatenate([empty, *windows[rank::ranks]])
    head = model.get_output_embeddings()
    if not dense:
        arrays["weight"] = head.weight.detach()[: order.vocab].float().numpy()
        if head.bias is not None:
            arrays["bias"] = head.bias.detach()[: order.vocab].float().numpy()
    for file, values in arrays.items():
        np.save(folder / f"{file}.npy", np.ascontiguousarray(values))
    found = Handover(
        model=name,
        seed=seed,
        step=step,
        order=order.digest,
        representation="dense" if dense else "factored",
        scale=1.0,
        ranks=ranks,
        window=order.window,
        overlap=order.overlap,
        noise_floor=0.0,
        dtype="float32",
        tf32=False,
        device="cpu",
        model_vocab=head.weight.shape[0],
        created=time.time(),
        files=described(folder),
        probes={p: CapturedProbe(order.probes[p].digest, n) for n, p in enumerate(asked)},
    )
    (folder / "capture.json").write_text(dataclasses.replace(found, **changes).to_json())
    if announced:
        write_letter(study, seed, step, name=name)
    return folder


def described(folder: Path) -> dict[str, SpooledFile]:
    """Sizes and checksums of the arrays that are there."""
    return {
        file.name: SpooledFile(
            file.stat().st_size, hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
        )
        for file in folder.glob("*.npy")
    }


def write_letter(study: Path, seed: str, step: int, *, name: str = "m", **fields: Any) -> Path:
    """Announce what was handed over; or, with `lost`, that it was not and why."""
    folder = announcements_folder(study)
    place = run_folder(folder, name, seed) / str(step)
    letter = {"format": 2, "captured": True, "model": name, "seed": seed, "step": step}
    letter |= {"path": str(place), "time": time.time()}
    file = folder / f"{step}-{hashlib.blake2b(f'{name} {seed}'.encode()).hexdigest()[:12]}.json"
    file.write_text(json.dumps(letter | fields))
    return file
