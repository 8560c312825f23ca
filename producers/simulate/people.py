"""The people who scan: the same ones come back on other days, mostly near the place where they live."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from producers.simulate.arrays import Floats, Ints, stream
from producers.simulate.totals import Totals

POOL_PER_PERSON: Final = 2.2
"""People in town for each one of the busiest day."""
# source -> share of people whose own way of checking in it is
APP_MIX: Final = {
    "pc_covid": 0.44,
    "bluezone": 0.16,
    "ncovi": 0.07,
    "vhd": 0.06,
    "vneid": 0.12,
    "hue_s": 0.005,
    "national_qr": 0.145,
}
# source -> share of visits at which a venue reads a card instead
CARD_MIX: Final = {"cccd": 0.04, "bhyt": 0.02, "other": 0.01}
SOURCE_NAMES: Final = (*APP_MIX, *CARD_MIX, "checkpoint", "paper")
CHECKPOINT_SOURCE: Final = SOURCE_NAMES.index("checkpoint")
PAPER_SOURCE: Final = SOURCE_NAMES.index("paper")
HUE: Final = "46"


@dataclass(frozen=True)
class People:
    """All people as columns; a person is an index."""

    ids: list[str]
    app: Ints
    """Index into ``SOURCE_NAMES``."""
    activity: Floats
    """How readily somebody goes out."""
    home: Floats
    """On the same line from 0 to 1 as the venues' ``place``."""


def make_people(totals: Totals, seed: int) -> People:
    """Draws as many people as the busiest day needs, and more, since not everybody is out every day."""
    rng = stream(seed, "people")
    count = int(max(day.persons for day in totals.days) * POOL_PER_PERSON) + 10
    drawn = rng.bytes(16 * count).hex()
    shares = np.array(list(APP_MIX.values()))
    if totals.province == HUE:
        shares[SOURCE_NAMES.index("hue_s")] = 2.0  # the town's own app is the usual one there
    return People(
        ids=[drawn[start : start + 32] for start in range(0, len(drawn), 32)],
        app=rng.choice(len(shares), count, p=shares / shares.sum()),
        activity=rng.lognormal(0, 0.8, count),
        home=rng.random(count),
    )
