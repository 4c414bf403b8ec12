"""Nothing inside a study leads out of it: symbolic links are neither followed nor deleted through.

The study's folder itself may be reached by a link; what lies in it may not be one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from store.errors import DamagedError


def refuse_link(root: Path, path: Path) -> None:
    """Raise DamagedError when `path`, which lies below `root`, is reached through a link."""
    at = root
    for part in path.relative_to(root).parts:
        at = at / part
        if at.is_symlink():
            raise DamagedError(
                f"{at}: is a symbolic link, and a study holds none; put back what belongs there"
            )


def remove_tree(root: Path, folder: Path) -> None:
    """Remove a folder below `root`, if it is there. A link in its place goes, its target stays.

    Raises DamagedError when a folder above it is a link.
    """
    refuse_link(root, folder.parent)
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
