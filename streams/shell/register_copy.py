"""A worker's own copy of the register on disk, so that a restart need not read and judge every venue again.

A cache of the topic and nothing more: the reader goes on from the offsets it was made at, and it is thrown away
unless it is whole, of this very topic, made by this build's reading of venues, and young enough: of a venue that was
removed since, the null record must still be there to be read.
"""

import hashlib
import time
import zlib
from pathlib import Path
from typing import Final

import msgspec

from schemas import areas
from streams.core import directory
from truyvet import logs

_MAGIC: Final = b"truyvet register 2\n"
_HEAD_BYTES: Final = len(_MAGIC) + 4
DELETE_RETENTION_MS: Final = 86_400_000
"""How long Kafka keeps a null record by itself."""
_AGE_SHARE: Final = 2
"""A copy is used for half of that, and made again at a half of this."""

log = logs.get("register")


class Copied(msgspec.Struct, array_like=True):
    """The register as it was once the topic was read up to ``positions`` (next offset by partition)."""

    positions: dict[int, int]
    newest_ms: int
    contents: directory.Contents


class _Filed(msgspec.Struct, array_like=True):
    """What stands in the file, behind its checksum; ``made_ms`` in epoch ms."""

    topic_id: str
    reading: str
    made_ms: int
    copied: Copied


class _Unread(msgspec.Struct, array_like=True):
    """The same before it is known whether this build can read what was copied."""

    topic_id: str
    reading: str
    made_ms: int
    copied: msgspec.Raw


_DECODE: Final = msgspec.msgpack.Decoder(_Unread).decode
_DECODE_COPIED: Final = msgspec.msgpack.Decoder(Copied).decode
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class RegisterCopy:
    """The copy in one file; for the register's reader alone."""

    def __init__(self, path: Path, topic_id: str, delete_retention_ms: int = DELETE_RETENTION_MS) -> None:
        """``topic_id`` is the broker's own for the topic: one made anew under the same name has another.

        ``delete_retention_ms`` is how long null records of the topic can be read.
        """
        self._path = path
        self._topic_id = topic_id
        self._reading = _reading()
        self._age_ms_max = delete_retention_ms // _AGE_SHARE
        self._made_ms: int | None = None

    @property
    def ages(self) -> bool:
        """Whether there is a copy that soon could not be used any more."""
        return self._made_ms is not None and not 0 <= _now_ms() - self._made_ms < self._age_ms_max // _AGE_SHARE

    def load(self) -> Copied | None:
        """The copy, or None where there is none that may be used."""
        if not self._path.exists():
            return None
        try:
            filed = _DECODE(_checked(self._path.read_bytes()))
            if (filed.topic_id, filed.reading) != (self._topic_id, self._reading):
                log.info("the copy of the register is another topic's or build's; the topic is read from its start")
                return None
            if not 0 <= _now_ms() - filed.made_ms <= self._age_ms_max:
                log.info("the copy of the register is too old; the topic is read from its start")
                return None
            copied = _DECODE_COPIED(filed.copied)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("the copy of the register is damaged; the topic is read from its start", error=str(error))
            return None
        self._made_ms = filed.made_ms
        return copied

    def save(self, copied: Copied) -> None:
        """Replaces the copy with one of now. It need not survive a machine that stops: the checksum tells."""
        self._made_ms = _now_ms()
        body = _ENCODE(_Filed(self._topic_id, self._reading, self._made_ms, copied))
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


def _now_ms() -> int:
    return int(time.time() * 1000)


def _reading() -> str:
    """A fingerprint of how this build reads venues: another one may accept others, or hold them differently."""
    digest = hashlib.blake2b()
    for module in (areas, directory):
        for path in sorted(Path(module.__file__ or "").parent.iterdir()):
            if path.suffix in (".py", ".pyx", ".csv"):
                digest.update(path.read_bytes())
    return digest.hexdigest()
