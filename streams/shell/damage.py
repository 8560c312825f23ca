"""What it looks like when the files of a store are damaged, and how a process tells the next one."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from truyvet import logs
from truyvet.disk import NO_SPACE

_DAMAGED: Final = ("Corruption: ", "Invalid argument: ", "Not implemented: ", "NotFound: ")
"""How RocksDB begins to say that its files are not what it wrote."""
_MISSING: Final = ("No such file or directory", "Is a directory", "Not a directory")
"""The same of a file that is not there."""
_NOT_DAMAGED: Final = (
    *(NO_SPACE, "Permission denied", "Read-only file system", "Too many open files", "Cannot allocate memory"),
    *("Disk quota exceeded", "Input/output error", "lock hold by", "While lock file"),
)
"""What is no fault of the files, though RocksDB may call it one: it passes, or is the operator's to mend."""
NOTE: Final = "DAMAGED"
"""The file that a process leaves in a store at which it ended."""

log = logs.get("store")


class DamagedStoreError(OSError):
    """The files of a store are damaged, as was seen while it was in use; the next start sets it aside."""


def is_damage(error: Exception) -> bool:
    """Whether RocksDB says that files are damaged or missing; it has one exception for everything."""
    text = str(error)
    return not any(other in text for other in _NOT_DAMAGED) and (
        text.startswith(_DAMAGED) or any(missing in text for missing in _MISSING)
    )


class NotingDamage:
    """Leaves a note where RocksDB says that the files are damaged; to be entered again and again.

    Leaving it raises ``DamagedStoreError`` then.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        """Nothing: what costs anything here is paid with every look into the store."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Looks at what was raised.

        Raises:
            DamagedStoreError: that says that the files are damaged.
        """
        if error is None or not isinstance(error, Exception) or not is_damage(error):
            return
        with suppress(OSError):
            (self._directory / NOTE).touch()
        log.error("a store is damaged; the next start restores it", folder=self._directory, error=str(error))
        raise DamagedStoreError(str(error)) from error
