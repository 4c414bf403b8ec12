"""A disk that is soon full, where the machine lets one be mounted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory whose size can be set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, kilobytes: int) -> None:
        self._mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")

    def resize(self, kilobytes: int) -> None:
        self._mount("-o", f"remount,size={kilobytes}k")

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=False, capture_output=True)

    def _mount(self, *arguments: str) -> None:
        ended = subprocess.run(
            ["mount", *arguments, self.folder], check=False, capture_output=True, text=True
        )
        if ended.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {ended.stderr.strip()}")
