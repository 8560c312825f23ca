"""A build of state version 2, made of this one: what it wrote is recorded, and this build must write the same.

Version 2 kept all 29 bytes of a venue's attributes with each scan.
"""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from streams.core import held_scans, keys, migrate, packed, person
from tests.core import plain

_ATTRIBUTES_BYTES = 29
_FIXED_BYTES = 13 + _ATTRIBUTES_BYTES


def become(patch: pytest.MonkeyPatch) -> None:
    """Turns the imported core into version 2's; ``patch`` undoes it, or nobody does in a process of its own."""
    patch.setattr(keys, "STATE_VERSION", 2)
    none: Mapping[int, migrate.Migration] = MappingProxyType({})
    patch.setattr(migrate, "MIGRATIONS", none)
    for module in (packed, person):
        patch.setattr(module, "KEPT_BYTES", _ATTRIBUTES_BYTES)
    for module in (packed, person, held_scans):
        patch.setattr(module, "NO_ATTRIBUTES", bytes(_ATTRIBUTES_BYTES))
    patch.setattr(packed, "_FIXED_BYTES", _FIXED_BYTES)
    plain.become(patch)  # what is compiled knows this version alone
