"""The sink's consumer: reads in bulk, hands batches to the inserter, commits what is stored.

The delivery argument: an offset is committed only after every row before it was acknowledged by ClickHouse; a crash
in between means that rows are inserted again, perhaps in other batches, and a row inserted again replaces itself.

All Kafka calls are made from one thread. Commits are asynchronous, so a broker that is away holds up nothing;
what could not be committed is committed with the next ones.
"""

import time
from collections.abc import Mapping
from threading import Event

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from sinks.backends import Backend
from sinks.client_options import client_options
from sinks.columns import TopicDecoder
from sinks.inserting import BATCH_BYTES_MAX, Batch, Inserter, Place
from sinks.records import Fetched, Records, each, runs
from sinks.register_topic import RegisterLostError, RegisterTopic
from sinks.status import Status
from sinks.taking import PASSED_ON, Taking
from truyvet import logs, metrics
from truyvet.config import Settings

CONSUME_RECORDS_MAX = 5_000
"""Records decoded at a time: enough to share the cost, few enough to stay in the processor's cache."""
CONSUME_SECONDS = 0.05
"""How long a fetch may wait to be full; the client waits the whole of it when it is not."""
COMMIT_AGAIN_SECONDS = 1.0
LOOK_AROUND_SECONDS = 1.0
CARE_SECONDS = 30.0
"""So long after the last record that cannot be taken another one is expected."""
STOP_INSERT_SECONDS_MAX = 5.0
STOP_COMMIT_SECONDS_MAX = 2.0
CONSUME_BYTES_MAX = 8 * 1024 * 1024
"""About what the records that are decoded at a time may hold."""
_CONSUME_AT_ONCE = 500

_log = logs.get("sink")


class SinkFailedError(Exception):
    """The sink cannot go on by itself; one sentence."""


class Consuming:
    """The loop from Kafka to the inserter.

    Args:
        settings: Broker, prefix, bounds of a batch.
        backend: Where rows go; its schema is there.
        decoders: By topic (full name), what makes rows of its records.
        status: What the process shows of itself.
        register: The register's topic; None where nobody asks for rows of it.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        decoders: Mapping[str, TopicDecoder],
        status: Status,
        register: RegisterTopic | None = None,
    ) -> None:
        self._register = register
        self._backend = backend
        self._decoders = decoders
        self._status = status
        self._rows_max = settings.sink_batch_rows_max
        self._batch_seconds = settings.sink_batch_ms / 1000
        self._generation = 0
        self._batch = self._new_batch()
        self._stored: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self._commit_under_way = False
        self._commit_not_before = 0.0
        self._looked_around = 0.0
        self._paused = False
        self._broker_doubt: str | None = None
        self._said: set[int] = set()
        self._care_until: dict[Place, int] = {}
        self._care_since = -CARE_SECONDS
        self._taking = Taking(backend, decoders, settings.topic("rejects"))
        self._inserter = Inserter(backend, status, self._taking)
        self._consumer = Consumer(
            client_options(settings, backend.identity()) | {"error_cb": self._on_error, "on_commit": self._on_commit}
        )

    def run(self, stop: Event) -> None:
        """Reads and stores until ``stop`` is set, then finishes within seconds.

        Raises:
            SinkFailedError: the client library gave up for good.
        """
        topics = list(self._decoders)
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        try:
            while not stop.is_set():
                self._turn()
        finally:
            self._close()

    def _new_batch(self) -> Batch:
        return Batch(generation=self._generation, started=time.monotonic())

    def _turn(self) -> None:
        self._take_stored()
        if self._full() and not self._inserter.free:
            self._wait_for_inserter()
            return
        wanted = max(1, min(CONSUME_RECORDS_MAX, self._rows_max - self._batch.records))
        self._sort_in(self._consume(wanted))
        if self._inserter.free and self._due():
            batch, self._batch = self._batch, self._new_batch()
            self._inserter.submit(batch)
        self._commit()
        self._look_around()

    def _consume(self, wanted: int) -> Fetched:
        """Up to so many records, fewer where they are large: a queue of dead letters may hold gigabytes.

        None at all if partitions were given back meanwhile: what came before that is read again, behind other records,
        and the call that gave them back may still return it (confluent-kafka-python issue 1013).
        """
        fetched = Fetched()
        generation = self._generation
        while fetched.count < wanted and fetched.bytes < CONSUME_BYTES_MAX:
            at_once = min(_CONSUME_AT_ONCE, wanted - fetched.count)
            some = self._consumer.consume(at_once, 0.0 if fetched.count or self._register_waits else CONSUME_SECONDS)
            if self._generation != generation:
                self._begin_again()
                return Fetched()
            self._take(fetched, some)
            if len(some) < at_once:
                break
        if self._register is not None and not self._paused:
            self._take_register(self._register, fetched)
        return fetched

    @property
    def _register_waits(self) -> bool:
        return self._register is not None and not self._paused and self._register.is_behind

    def _take_register(self, register: RegisterTopic, fetched: Fetched) -> None:
        """What there is of the register: what the gate lets through, and how far that is."""
        try:
            parts = register.take(self._consumer, 0.0 if fetched.count else CONSUME_SECONDS)
        except RegisterLostError as error:
            raise SinkFailedError(str(error)) from error
        for part in parts:
            records = self._records_of(fetched, part.topic)
            before = records.value_bytes
            records.add_fetched(part.partition, part.records)
            fetched.bytes += records.value_bytes - before
            fetched.count += len(part.records)
            fetched.ends[part.topic, part.partition] = part.next

    def _records_of(self, fetched: Fetched, topic: str) -> Records:
        records = fetched.records.get(topic)
        if records is None:
            records = fetched.records[topic] = Records(keyed=self._decoders[topic].keyed, timed=self._careful)
        return records

    def _take(self, fetched: Fetched, messages: list[Message]) -> None:
        """Takes out of the client's messages what matters, topic by topic."""
        fetched.count += len(messages)
        if any(each(messages, "error")):
            for message in messages:
                self._take_event(fetched, message)
            messages = [message for message in messages if message.error() is None]
        for topic, run in runs(messages, "topic"):
            records = self._records_of(fetched, topic)
            fetched.bytes -= records.value_bytes
            records.add(run)
            fetched.bytes += records.value_bytes

    def _take_event(self, fetched: Fetched, message: Message) -> None:
        """An error, or the end of a partition, which moves its position."""
        error = message.error()
        if error is None:
            return
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - that is the constant's public name
            self._on_error(error)
        elif (partition := message.partition()) is not None and (offset := message.offset()) is not None:
            fetched.ends[message.topic() or "", partition] = offset

    def _begin_again(self) -> None:
        """Reads from what is stored on, as far as is known here; else from the committed offsets."""
        places = [(one.topic, one.partition) for one in self._consumer.assignment()]
        places += [] if self._register is None else self._register.places
        if places:
            again = [TopicPartition(*place, self._stored.get(place, OFFSET_INVALID)) for place in places]
            self._consumer.assign(again if self._register is None else self._register.take_over(self._consumer, again))

    @property
    def _careful(self) -> bool:
        """Whether records are read so that those that cannot be taken are told apart: it costs a tenth more."""
        return bool(self._care_until) or time.monotonic() - self._care_since < CARE_SECONDS

    def _take_care(self, reached: dict[Place, int]) -> None:
        """Drops what is not stored, up to there, and reads it again with care: some record of it cannot be taken."""
        _log.warning("some record cannot be taken; reading again from what is stored, with care")
        self._care_since = time.monotonic()
        self._care_until |= reached
        self._generation += 1
        self._batch = self._new_batch()
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        self._begin_again()

    def _full(self) -> bool:
        return self._batch.records >= self._rows_max or self._batch.record_bytes >= BATCH_BYTES_MAX

    def _due(self) -> bool:
        if not self._batch.positions:
            # Nothing here: the waiting time begins with the first record.
            self._batch.started = time.monotonic()
            return False
        # Ends of partitions alone need no insert and no waiting.
        waited = time.monotonic() - self._batch.started >= self._batch_seconds
        return self._full() or waited or not self._batch.blocks

    def _wait_for_inserter(self) -> None:
        """ClickHouse is slower than Kafka, or away: reads no more, but stays a member of the group."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        self._sort_in(self._consume(1))
        self._commit()
        self._look_around()

    def _take_stored(self, wait_seconds: float = 0.0) -> None:
        batch = self._inserter.take_done(wait_seconds)
        if batch is None:
            return
        if batch.refused is not None:
            _log.error("ClickHouse refuses a row for what it holds", reason=batch.refused)
            if batch.generation == self._generation:
                self._take_care(batch.positions | self._batch.positions)
            return
        if batch.generation == self._generation:
            self._stored |= batch.positions
            for place, offset in batch.positions.items():
                if offset >= self._care_until.get(place, offset + 1):
                    del self._care_until[place]
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def _sort_in(self, fetched: Fetched) -> None:
        """Decodes the records topic by topic into the batch; ends of partitions move their positions."""
        for topic, records in fetched.records.items():
            try:
                ready = self._taking.all(topic, records)
            except PASSED_ON:
                raise
            except Exception:  # noqa: BLE001 - whatever it is, it costs the record alone
                if not records.timed:
                    self._take_care(self._batch.positions | fetched.reached())
                    return
                self._care_since = time.monotonic()
                ready = self._taking.each(topic, records)
            self._batch.add(ready)
            if records.timed:
                self._batch.sources.append((topic, records))
            self._batch.records += len(records)
            self._batch.record_bytes += records.value_bytes
            for partition, offset in records.last_offsets.items():
                self._reach((topic, partition), offset, 1)
        # The end lies behind a transaction's marker, which no record shows; without it the last offset
        # would never be reached.
        for place, offset in fetched.ends.items():
            self._reach(place, offset, 0)

    def _reach(self, place: Place, offset: int, step: int) -> None:
        self._batch.positions[place] = max(offset + step, self._batch.positions.get(place, 0))

    def _commit(self) -> None:
        """Commits what is stored and not yet committed, one commit at a time."""
        if self._commit_under_way or time.monotonic() < self._commit_not_before:
            return
        news = {place: offset for place, offset in self._stored.items() if self._committed.get(place) != offset}
        if not news:
            return
        offset_of = TopicPartition if self._register is None else self._register.offset
        offsets = [offset_of(topic, partition, offset) for (topic, partition), offset in news.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._commit_failed(error.args[0])
        else:
            self._commit_under_way = True

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        self._commit_under_way = False
        if error is not None:
            self._commit_failed(error)
            return
        for one in offsets:
            if one.error is not None:
                self._commit_failed(one.error)
                continue
            place = (one.topic, one.partition)
            if place in self._stored:
                self._committed[place] = one.offset
                self._status.committed(one.topic, one.partition, one.offset)

    def _commit_failed(self, error: KafkaError) -> None:
        """Nothing is lost: what is stored is committed later, or read and stored again."""
        metrics.BROKER_ERRORS.inc()
        self._commit_not_before = time.monotonic() + COMMIT_AGAIN_SECONDS
        _log.debug("offsets were not committed; trying again", reason=error.str())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        metrics.REBALANCES.inc()
        if self._register is not None:
            consumer.assign(self._register.take_over(consumer, partitions))
        _log.info("partitions assigned", partitions=len(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Forgets what is not stored: whoever gets the partitions begins at the committed offsets."""
        _log.info("partitions given back", partitions=len(partitions))
        if self._register is not None:
            self._register.let_go()
        self._generation += 1
        self._batch = self._new_batch()
        self._stored.clear()
        self._committed.clear()
        self._care_until.clear()
        self._status.forget_positions()
        self._paused = False

    def _on_error(self, error: KafkaError) -> None:
        metrics.BROKER_ERRORS.inc()
        # A fenced member is told by a message that is itself not fatal, but says that something was.
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - that is the constant's public name
            raise SinkFailedError(f"the Kafka client gave up: {error.str()}")
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - that is the constant's public name
            # Heard of late, perhaps: looking around asks before anything is said.
            self._broker_doubt = error.str()
        elif error.code() not in self._said and error.code() != KafkaError._TRANSPORT:  # noqa: SLF001 - same
            self._said.add(error.code())
            _log.warning("the Kafka client reports an error and goes on; said once", reason=error.str())

    def _look_around(self) -> None:
        """About once a second: lag, and whether a broker that is said to be away answers.

        The client's word alone does not do: it comes through a queue, behind which the broker may be back, as
        records that it brought before it went may come after it.
        """
        now = time.monotonic()
        if now - self._looked_around < LOOK_AROUND_SECONDS:
            return
        self._looked_around = now
        if self._broker_doubt is not None:
            try:
                self._consumer.list_topics(next(iter(self._decoders)), timeout=LOOK_AROUND_SECONDS)
            except KafkaException:
                self._status.broker_away(self._broker_doubt)
                return
            self._broker_doubt = None
            self._status.broker_back()
        if self._register is not None and self._register.was_made_anew():
            raise SinkFailedError("the register's topic was made anew: started again, the sink reads all of it")
        self._status.lag(*self._lag())

    def _lag(self) -> tuple[dict[Place, int], int]:
        """(records not yet stored by partition, the sum of the offsets up to which they are)."""
        bounds = {
            (one.topic, one.partition): self._consumer.get_watermark_offsets(one, cached=True)
            for one in self._consumer.assignment()
        }
        if self._register is not None:
            bounds |= {place: (0, end) for place, end in self._register.ends.items()}
        stored = {place: self._stored.get(place, max(0, low)) for place, (low, high) in bounds.items() if high >= 0}
        return {place: max(0, bounds[place][1] - offset) for place, offset in stored.items()}, sum(stored.values())

    def _close(self) -> None:
        """Gives an insert under way some seconds, commits it, and leaves; the rest will be read again."""
        deadline = time.monotonic() + STOP_INSERT_SECONDS_MAX
        while not self._inserter.free and not self._status.refused and time.monotonic() < deadline:
            self._take_stored(CONSUME_SECONDS)
        self._inserter.stop(max(0.0, deadline - time.monotonic()))
        self._commit_not_before = 0.0
        deadline = time.monotonic() + STOP_COMMIT_SECONDS_MAX
        self._commit()
        while self._commit_under_way and time.monotonic() < deadline:
            # Commits are answered from within poll; a record that it returns will be read again.
            self._consumer.poll(CONSUME_SECONDS)
            self._commit()
        self._consumer.close()
        if self._register is not None:
            self._register.close()
