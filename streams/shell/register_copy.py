"""A worker's own copy of the register on disk, so that a restart need not read and judge every venue again.

A cache of the topic and nothing more: the reader goes on from the offsets it was made at, and it is thrown away
unless it is whole, of this very topic, and made by this build's reading of venues.
"""

import hashlib
import zlib
from pathlib import Path
from typing import Final

import msgspec

from schemas import areas
from streams.core import directory
from truyvet import logs

_MAGIC: Final = b"truyvet register 1\n"
_HEAD_BYTES: Final = len(_MAGIC) + 4

log = logs.get("register")


class Copied(msgspec.Struct, array_like=True):
    """The register as it was once the topic was read up to ``positions`` (next offset by partition)."""

    positions: dict[int, int]
    newest_ms: int
    contents: directory.Contents


class _Filed(msgspec.Struct, array_like=True):
    """What stands in the file, behind its checksum."""

    topic_id: str
    reading: str
    copied: Copied


_DECODE: Final = msgspec.msgpack.Decoder(_Filed).decode
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class RegisterCopy:
    """The copy in one file; for the register's reader alone."""

    def __init__(self, path: Path, topic_id: str) -> None:
        """``topic_id`` is the broker's own for the topic: one made anew under the same name has another."""
        self._path = path
        self._topic_id = topic_id
        self._reading = _reading()

    def load(self) -> Copied | None:
        """The copy, or None where there is none that may be used."""
        if not self._path.exists():
            return None
        try:
            filed = _DECODE(_checked(self._path.read_bytes()))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("the copy of the register is damaged; the topic is read from its start", error=str(error))
            return None
        if (filed.topic_id, filed.reading) != (self._topic_id, self._reading):
            log.info("the copy of the register is another topic's or build's; the topic is read from its start")
            return None
        return filed.copied

    def save(self, copied: Copied) -> None:
        """Replaces the copy. It need not survive a machine that stops: the checksum tells."""
        body = _ENCODE(_Filed(self._topic_id, self._reading, copied))
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(_MAGIC + zlib.crc32(body).to_bytes(4))
                file.write(body)
            new.replace(self._path)
        except OSError as error:
            log.warning("the register cannot be copied to disk; a restart reads more", error=str(error))


def _checked(packed: bytes) -> memoryview:
    body = memoryview(packed)[_HEAD_BYTES:]
    if packed[:_HEAD_BYTES] != _MAGIC + zlib.crc32(body).to_bytes(4):
        raise ValueError("the checksum is wrong")
    return body


def _reading() -> str:
    """A fingerprint of how this build reads venues: another one may accept others, or hold them differently."""
    digest = hashlib.blake2b()
    for module in (areas, directory):
        for path in sorted(Path(module.__file__ or "").parent.iterdir()):
            if path.suffix in (".py", ".csv"):
                digest.update(path.read_bytes())
    return digest.hexdigest()
