"""Whether a worker's stores are of the changelogs that are there now.

A changelog that was restored from a backup, or made anew, has other records at the offsets that a store from before
remembers. The broker gives every topic that is made an id of its own: the worker's folder says of which its stores are.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streams.core.room import PERSON_ROOM, VENUE_ROOM

CHANGELOGS: Final = tuple(f"state-{room}" for room in (PERSON_ROOM, VENUE_ROOM))
_NAME: Final = "changelogs.json"


def keep_only_stores_of(directory: Path, ids: Mapping[str, str]) -> bool:
    """Removes a worker's stores unless they are of the changelogs with these ids; returns whether any were there.

    To be called before a store is opened.
    """
    path = directory / _NAME
    text = json.dumps(dict(ids), sort_keys=True)
    # Where it is damaged nobody knows whose the stores are.
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    stores = [store for room in (PERSON_ROOM, VENUE_ROOM) for store in directory.glob(f"{room}-*")]
    for store in stores:
        if store.is_file():
            store.unlink()
        else:
            shutil.rmtree(store)
    if path.is_dir():
        shutil.rmtree(path)
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return bool(stores)
