"""How much room the disk of a folder has left that a process writes to; said when it is full, and when no longer."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from truyvet import logs
from truyvet.metrics import DISK_FREE_BYTES

FREE_BYTES_MIN: Final = 64 * 1024 * 1024
"""With less, flushes and merges fail sooner or later."""
NO_SPACE: Final = "No space left on device"
"""How the operating system says it, inside the messages of libraries."""
_TRIES_MAX: Final = 60
"""So many seconds it is tried although there is room."""

log = logs.get("disk")


def complaint(folder: Path) -> str | None:
    """One sentence if the folder's disk is as good as full; None if there is room, or no such folder."""
    try:
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        return None
    return None if free >= FREE_BYTES_MIN else f"the disk of {folder} is full: {free // 2**20} MiB are left"


def keep_writing(write: Callable[[], None], folder: Path, unless: Callable[[], bool]) -> None:
    """Writes again for as long as the disk is full: RocksDB goes on by itself once there is room.

    Raises:
        Exception: what ``write`` raises for another reason, or where ``unless`` says that nobody wants it any more, or
            where it goes on although there is room.
    """
    tries, said = 0, False
    while True:
        try:
            write()
        except Exception as error:  # RocksDB has one for everything
            if NO_SPACE not in str(error) or unless() or tries > _TRIES_MAX:
                raise
            if not said:
                log.warning("a store cannot be written; waiting for room", folder=folder)
                said = True
            tries = 0 if complaint(folder) else tries + 1
            time.sleep(1.0)
        else:
            return


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
