"""A worker to whose fetching client the broker first says nothing of some topics: ``python -m`` this.

As a broker does that has not heard yet of topics that another one has just made.
"""

import argparse
import sys
import time
from types import SimpleNamespace

from aiokafka.cluster import ClusterMetadata

from streams.shell import inputs, worker
from truyvet.config import load_settings

_FORGETS_SECONDS = 4.0
"""Longer than joining the group takes."""


def main() -> int:
    """Runs until SIGTERM; returns the exit status."""
    began = time.monotonic()
    unknown = {load_settings().topic(name) for name in inputs.TOPICS["venue"]}
    update = ClusterMetadata.update_metadata

    def forgetful_update(cluster: ClusterMetadata, metadata: SimpleNamespace) -> None:
        if time.monotonic() - began < _FORGETS_SECONDS:
            metadata.topics = [found for found in metadata.topics if found[1] not in unknown]
        update(cluster, metadata)

    ClusterMetadata.update_metadata = forgetful_update
    return worker.run(argparse.Namespace())


if __name__ == "__main__":
    sys.exit(main())
