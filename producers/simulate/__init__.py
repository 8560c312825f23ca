"""``truyvet simulate``: input files whose shape is realistic and whose daily totals are exact.

``totals`` reads what was published, ``fill`` completes it, ``register`` and ``people`` make who there is, ``day``
draws one day's scans to its totals, ``mixing`` adds what must not change them, ``cases`` picks
who fell ill, ``lines`` writes, ``generate`` does it all in order. Same seed, totals and scale: same bytes.
"""
