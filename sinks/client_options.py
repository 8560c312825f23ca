"""How the sink's Kafka client is set."""

from typing import Final

from truyvet.config import Settings

_QUEUED_KIB_MAX: Final = 8 * 1024
_FETCH_BYTES_MAX: Final = 512 * 1024
"""Both of each partition, the latter as it comes over the wire: compressed, it may be hundreds of times as much."""


def client_options(settings: Settings, identity: str) -> dict[str, object]:
    """Everything but the callbacks; ``identity`` names the database, so that each has offsets of its own."""
    options: dict[str, object] = dict(settings.librdkafka())
    options |= {
        "group.id": f"{settings.topic_prefix}sink-{identity}",
        "client.id": "truyvet-sink",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": max(settings.session_timeout_ms // 10, 100),
        "queued.max.messages.kbytes": _QUEUED_KIB_MAX,
        "fetch.message.max.bytes": _FETCH_BYTES_MAX,
        # A fetch waits for a few hundred records or 50 ms: the broker is asked less often, for more at once.
        "fetch.min.bytes": 65_536,
        "fetch.wait.max.ms": 50,
        # By itself the client fetches nothing for a second once so much is queued.
        "fetch.queue.backoff.ms": 20,
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        # The sink says what matters itself; the library's own lines repeat it every second.
        "log_level": 0,
    }
    if settings.clickhouse == "embedded":
        # One process owns the embedded database, so there is never a twin, and after a crash the next
        # one gets its partitions at once instead of waiting for the dead one's session to end.
        options["group.instance.id"] = "embedded"
    return options
