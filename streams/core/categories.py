"""Venue categories: how long a stay lasts that nobody checked out of, and how long one may last."""

from types import MappingProxyType
from typing import Final, NamedTuple


class Category(NamedTuple):
    """Minutes of one venue category."""

    dwell_minutes: int
    """What a scan without a check-out is worth; a venue may set its own."""
    dwell_minutes_max: int
    """The longest visit, and the most that a venue may set."""


CATEGORIES: Final = MappingProxyType(
    {
        "restaurant": Category(60, 240),
        "cafe": Category(60, 240),
        "supermarket": Category(45, 180),
        "market": Category(45, 240),
        "mall": Category(90, 360),
        "transport": Category(60, 720),
        "checkpoint": Category(2, 10),
        "hotel": Category(720, 1440),
        "hospital": Category(120, 1440),
        "pharmacy": Category(15, 60),
        "school": Category(240, 720),
        "office": Category(480, 720),
        "factory": Category(480, 720),
        "worship": Category(90, 360),
        "residence": Category(720, 1440),
        "other": Category(60, 720),
    }
)
"""Every category by its name on the wire."""
