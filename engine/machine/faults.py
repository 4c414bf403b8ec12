"""Whose fault an error is: a checkpoint's, whose place is then named, or somebody else's.

Reading, building and calling a model run code of many libraries, and perhaps of a repository. What
they may raise for a broken checkpoint is not known, and is not always an Exception: libraries
written in Rust raise their panics past it. So whatever is raised there is the checkpoint's fault,
except for what a checkpoint cannot cause.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.errors import NOT_OF_CHECKPOINTS, CheckpointError, first_line, may_pass
from engine.machine.device_errors import is_dead_device, is_out_of_memory


def is_fault(error: BaseException) -> bool:
    """Return whether a checkpoint is to blame for what was raised while it was worked on.

    Not for a wish to stop, a study that cannot be written, a device that does not work any more
    and a lack of memory.
    """
    if isinstance(error, NOT_OF_CHECKPOINTS):
        return False
    return not is_out_of_memory(error) and not is_dead_device(error)


@contextlib.contextmanager
def blamed(where: str, what: str) -> Iterator[None]:
    """Turn an error into the CheckpointError that names the checkpoint at `where`.

    `what` is in the message, as in "cannot be read". An error that is a CheckpointError, or is not
    the checkpoint's fault, is raised unchanged.
    """
    try:
        yield
    except CheckpointError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        text = f"{where}: {what}: {first_line(error)}"
        raise CheckpointError(text, passing=may_pass(error)) from error
