"""One of two ranks that train and capture: `python -m tests.support.capture_ranks CASE FOLDER N`.

Prints, as JSON, digests of training with and without captures and how many captures failed.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from seedconv_tui.training import Capture, capture
from tests.support.captures import make_gpt, no_capture, train
from tests.support.deadline import DEADLINE

WORLD = 2


def wrapped(case: str, seed: int) -> nn.Module:
    """The model as each rank has it."""
    name, _, kind = case.partition("-")
    model = make_gpt(seed, tied=kind != "untied")
    if name == "pipeline":
        return model  # of which the last rank makes the logits
    if name == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if name == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    if name == "tp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Replicate
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        plan: dict[str, Any] = {
            "lm_head": ColwiseParallel(output_layouts=Replicate()),
            **{f"blocks.{n}.mlp.0": ColwiseParallel() for n in (0, 1)},
            **{f"blocks.{n}.mlp.2": RowwiseParallel() for n in (0, 1)},
        }
        return parallelize_module(model, init_device_mesh("cpu", (WORLD,)), plan)
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy: dict[str, Any] = {}
    if kind == "hybrid":
        from torch.distributed.device_mesh import init_device_mesh

        names = ("replicate", "shard")
        policy["mesh"] = init_device_mesh("cpu", (WORLD, 1), mesh_dim_names=names)
    if kind == "half":
        policy["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for block in model.blocks:
        fully_shard(block, **policy)
    if kind == "untied":
        fully_shard(model.lm_head, **policy)
    fully_shard(model, **policy)
    return model


def fail(module: nn.Module, *_: object) -> None:
    if not module.training:
        raise ZeroDivisionError("a model that fails when it is evaluated")


def main(case: str, folder: Path, rank: int) -> None:
    store = dist.FileStore(str(folder / "store"), WORLD)
    dist.init_process_group(
        "gloo", rank=rank, world_size=WORLD, store=store, timeout=timedelta(seconds=DEADLINE)
    )
    alone = case.endswith("-alone")  # only then somebody does not come, however long one waits
    patience = 3.0 if alone else DEADLINE
    capture._TOGETHER = capture._APART = patience  # type: ignore[attr-defined]
    share = not case.endswith("-unshared")
    alike = case.startswith(("tp", "pipeline"))
    forward = None
    if case.startswith("pipeline"):
        forward = lambda module, ids: module(ids, ids)[0] if rank else None  # noqa: E731
    handing_over = Capture(folder, model="m", seed=1, share=share, forward=forward)
    options: dict[str, Any] = {"rank": 0 if alike else rank, "steps": 3}
    if case.startswith("fsdp"):
        options["accumulate"] = 2
    model: Any = wrapped(case, 1)
    syncing = case == "fsdp2-accumulated"
    sync = model.set_requires_gradient_sync if syncing else None
    without = train(model, no_capture, sync=sync, **options)
    how = no_capture if alone and rank else handing_over
    model = wrapped(case, 1)
    sync = model.set_requires_gradient_sync if syncing else None
    if case.endswith("-raises"):
        made = model.module if case.startswith("ddp") else model
        made.blocks[1].register_forward_hook(fail)
    result = train(model, how, sync=sync, **options)
    if case == "fsdp2-nan":
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        handing_over(model, 50)
    words = {"without": without, "with": result, "failed": handing_over.failed}
    dist.barrier()
    # The weights as they are now, so that numbers can be compared with them.
    handing_over.failed = 0
    states = model.module if case.startswith("ddp") else model
    if case.startswith("fsdp1"):
        words["last"] = handing_over(model, 99)
    else:
        words["last"] = how(model, 99)
        full = {
            name: value.full_tensor() if hasattr(value, "full_tensor") else value
            for name, value in states.state_dict().items()
        }
        if rank == 0:
            torch.save(full, folder / "weights.pt")
    print(json.dumps(words))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
