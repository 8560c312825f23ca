"""How much room the disk of a folder has left that a process writes to; said when it is full, and when no longer."""

import shutil
from pathlib import Path
from typing import Final

from truyvet import logs
from truyvet.metrics import DISK_FREE_BYTES

FREE_BYTES_MIN: Final = 64 * 1024 * 1024
"""With less, flushes and merges fail sooner or later."""
NO_SPACE: Final = "No space left on device"
"""How the operating system says it, inside the messages of libraries."""

log = logs.get("disk")


def complaint(folder: Path) -> str | None:
    """One sentence if the folder's disk is as good as full; None if there is room, or no such folder."""
    try:
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        return None
    return None if free >= FREE_BYTES_MIN else f"the disk of {folder} is full: {free // 2**20} MiB are left"


class DiskWatch:
    """Looks at one folder's disk; to be told to about once a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.complaint: str | None = None

    def look(self) -> None:
        """Sets the metric, and says what has changed."""
        DISK_FREE_BYTES.set(shutil.disk_usage(self._folder).free)
        before, self.complaint = self.complaint, complaint(self._folder)
        if self.complaint is not None and before is None:
            log.error("the disk is full; nothing is lost, make room and it goes on", folder=self._folder)
        if self.complaint is None and before is not None:
            log.info("the disk has room again", folder=self._folder)
