"""The closed registry of metrics: every name a process may show, with its kind, unit, labels and meaning.

Nothing else in the project makes a prometheus object. A label's value is one of a small known set
(room, topic, partition, reason, table), never anything of a person.
"""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

PREFIX = "truyvet_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]

# From a step of a few records to the longest that a rebalance would wait for.
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECORDS_BUCKETS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``name`` is without the prefix."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as ``/metrics`` shows it."""
        return PREFIX + self.name


# A second series beside each counter, telling when it was made, would only be noise.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
# CPU seconds, resident bytes, open files and start of the process itself.
ProcessCollector(registry=REGISTRY)

METRICS: list[Metric] = []


def _declare(metric: Metric) -> Metric:
    METRICS.append(metric)
    return metric


def _counter(name: str, unit: str, labels: tuple[str, ...], meaning: str) -> Counter:
    metric = _declare(Metric(name, "counter", unit, labels, meaning))
    return Counter(metric.full_name, meaning, labels, registry=REGISTRY)


def _gauge(name: str, unit: str, labels: tuple[str, ...], meaning: str) -> Gauge:
    metric = _declare(Metric(name, "gauge", unit, labels, meaning))
    return Gauge(metric.full_name, meaning, labels, registry=REGISTRY)


def _histogram(name: str, unit: str, labels: tuple[str, ...], meaning: str, buckets: tuple[float, ...]) -> Histogram:
    metric = _declare(Metric(name, "histogram", unit, labels, meaning, buckets))
    return Histogram(metric.full_name, meaning, labels, registry=REGISTRY, buckets=buckets)


RECORDS_IN = _counter(
    "records_in_total", "records", ("room", "topic"), "Records taken from an input topic and settled by a step."
)
RECORDS_OUT = _counter("records_out_total", "records", ("topic",), "Records put on an output topic and committed.")
REJECTS = _counter("rejects_total", "records", ("reason",), "Dead letters written, by reason code.")
DUPLICATES = _counter("duplicates_total", "records", (), "Identical copies of a scan dropped silently.")
UNREAD_RECORDS = _counter(
    "unread_records_total",
    "records",
    ("topic",),
    "Records of an input (offsets) that were deleted before they were read.",
)
INPUT_CHANGES = _counter(
    "input_changes_total",
    "changes",
    ("topic", "change"),
    "Partitions of an input found made anew, cut, or deleted from before they were read.",
)
FAILED_RECORDS = _counter(
    "failed_records_total", "records", ("topic",), "Records at which the pipeline itself fails: a bug, or a bad disk."
)
SPLIT_STEPS = _counter(
    "split_steps_total", "steps", ("topic",), "Steps that failed as a whole and were taken in parts."
)
FAILED_KEYS = _counter(
    "failed_keys_total",
    "keys",
    ("work",),
    "State keys at which expiry, migration or what waits fails; they are left out until the next round.",
)
STOPPED_PARTITIONS = _gauge(
    "stopped_partitions",
    "partitions",
    (),
    "Partitions of a stage that stand still at a record of the pipeline's own, or at an input that was made anew.",
)
LAG_RECORDS = _gauge(
    "lag_records", "records", ("topic", "partition"), "Records of a partition that are there and not yet processed."
)
BEHIND_SECONDS = _gauge(
    "behind_seconds",
    "seconds",
    (),
    "Age of the record up to which the input that is farthest behind is read; 0 where nothing waits.",
)
CATCH_UP_SECONDS = _gauge(
    "catch_up_seconds",
    "seconds",
    (),
    "Estimated time until a backlog is worked off; infinite while it grows, or too little was seen.",
)
DISK_FREE_BYTES = _gauge("disk_free_bytes", "bytes", (), "Room on the disk of the folder that this process writes to.")
STEP_SECONDS = _histogram(
    "step_seconds", "seconds", ("room",), "Time to compute one step, without its commit.", SECONDS_BUCKETS
)
COMMIT_SECONDS = _histogram(
    "commit_seconds",
    "seconds",
    ("room",),
    "Time from the begin of a step's transaction until it is committed and stored.",
    SECONDS_BUCKETS,
)
STEP_RECORDS = _histogram("step_records", "records", ("room",), "Records taken by one step.", RECORDS_BUCKETS)
STATE_KEYS_WRITTEN = _counter("state_keys_written_total", "keys", ("room",), "State keys written to the changelog.")
EXPIRED_KEYS = _counter(
    "expired_keys_total", "keys", ("room",), "State keys changed or deleted because their time was over."
)
EXPIRY_SECONDS = _histogram(
    "expiry_seconds",
    "seconds",
    ("room",),
    "Time to look through one portion of the state for what is too old.",
    SECONDS_BUCKETS,
)
STATE_BYTES = _gauge("state_bytes", "bytes", ("room", "partition"), "Size of a room partition's store on disk.")
REGISTER_VENUES = _gauge("register_venues", "venues", (), "Venues in this process's directory of the register.")
REGISTER_CODES_CONTESTED = _gauge(
    "register_codes_contested", "codes", (), "Codes that more than one venue claims; v_contested_codes lists them."
)
DETOURS = _counter(
    "detours_total", "records", ("topic",), "Records on another partition than their key's, sent on to the right one."
)
ROWS_STORED = _counter("rows_stored_total", "rows", ("table",), "Rows that ClickHouse acknowledged.")
INSERT_SECONDS = _histogram(
    "insert_seconds", "seconds", ("table",), "Time of one insert until it is acknowledged.", SECONDS_BUCKETS
)
INSERT_RETRIES = _counter("insert_retries_total", "inserts", (), "Inserts refused by ClickHouse and tried again.")
BROKER_ERRORS = _counter("broker_errors_total", "errors", (), "Errors a Kafka client reported, such as a lost broker.")
REBALANCES = _counter("rebalances_total", "rebalances", (), "Times this process's partitions were assigned anew.")


def render() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
