"""Faust's assignor, for topics of which some may have more partitions than are read."""

from typing import Any, cast

from faust.assignor.partition_assignor import PartitionAssignor


class _Capped:
    """The cluster as the assignor sees it: of each topic no more partitions than are read."""

    def __init__(self, cluster: Any, partitions: int) -> None:
        self._cluster = cluster
        self._partitions = partitions

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        known = self._cluster.partitions_for_topic(topic)
        return known if known is None else {partition for partition in known if partition < self._partitions}


class Assignor(PartitionAssignor):
    """Faust's, but that it sees of each topic only the partitions that are read.

    It gives topics with different numbers of partitions to different members; those of a room belong together.
    """

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        """The assignment of the first partitions of each topic."""
        return super().assign(cast("Any", _Capped(cluster, self.app.conf.topic_partitions)), member_metadata)
