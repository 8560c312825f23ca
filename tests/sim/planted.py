"""Bugs planted on purpose, to know that the simulator sees: each is a small change of one function's text.

A bug that changes no result is no bug: whoever adds one here says in a word what it loses, doubles or shows wrongly.
"""

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Final

from tests.sim import planted_core
from tests.sim.planted_core import Edit

BUGS: Final[dict[str, Edit]] = {
    # What is left for portions.
    "work that is left is not taken up after a restart": Edit(
        "streams.shell.carrying",
        "Carrying._look_for_work",
        "pending.first_left(self._store)",
        "None",
    ),
    "records are taken before the work that is left is done": Edit(
        "streams.shell.carrying",
        "Carrying._notice",
        "if step.pending:",
        "if step.pending and step.number % 3 == 0:",
    ),
    # What the changelog, transactions and fences are for.
    "input offsets outside the transaction": Edit(
        "streams.shell.runner",
        "Runner._commit",
        "self._producer.commit(work.step)",
        "meta = work.step.changes.pop(META); self._producer.commit(work.step); "
        "self._producer.commit(Step(work.step.number, work.step.timestamp_ms, changes={META: meta})); "
        "work.step.changes[META] = meta",
    ),
    "store written before the commit": Edit(
        "streams.shell.runner",
        "Runner._commit",
        "self._producer.commit(work.step)",
        "self._store.written(position); self._producer.commit(work.step); return",
    ),
    "no fencing": Edit(
        "streams.shell.transaction",
        "TransactionalProducer.__init__",
        '{room}-{partition}"',
        '{room}-{partition}-{time.time()}"',
    ),
    "an owner that was fenced makes itself the owner again": Edit(
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        "waiting = self._packed(step)",
        'self._until_done("opening", self._take_over); self._sequences.clear(); waiting = self._packed(step)',
    ),
    "the end of the former transaction is not waited for": Edit(
        "streams.shell.transaction",
        "TransactionalProducer._begin",
        "self._requests.add_partitions(self._owner, places)",
        "self._requests.add_partitions(self._owner, places) % 51",
    ),
    "partitions that did not take their batch are not asked again": Edit(
        "streams.shell.transaction",
        "TransactionalProducer._send",
        "worst = code",
        "del waiting[place]",
    ),
    "of a partition's batches only the first is sent": Edit(
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        "while waiting:",
        "if waiting:",
    ),
    "a batch without an answer is sent again under new sequence numbers": Edit(
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        'self._until_done("commit", lambda: self._send(waiting))',
        "code = self._send(waiting); waiting = self._packed(step) if code in _PASSING else waiting; "
        'code in _PASSING or self._until_done("commit", lambda: code)',
    ),
    "a commit without an answer counts as done": Edit(
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        "self._requests.commit_transaction(self._owner)",
        "NONE if (code := self._requests.commit_transaction(self._owner)) == UNREACHABLE else code",
    ),
    "no new epoch": Edit(  # a commit that comes late ends the next transaction halfway
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        "if self._late:",
        "if False:",
    ),
    "a new epoch under the old sequence numbers": Edit(  # which the partitions refuse: no step is ever committed again
        "streams.shell.transaction",
        "TransactionalProducer.commit",
        "self._sequences.clear()",
        "pass",
    ),
    "changelog restored one record short": Edit(
        "streams.shell.restore",
        "_catch_up",
        "changes[key] = value",
        "changes.update({key: value} if offset < high - 2 else {})",
    ),
    "changelog restored from one record too far": Edit(
        "streams.shell.restore",
        "_catch_up",
        "position, applied = max(store.position, low), 0",
        "position, applied = max(store.position + 1, low), 0",
    ),
    "store ahead of nothing is trusted": Edit(
        "streams.shell.runner",
        "Runner._changelog_position",
        "if end is None else end",
        "if end is None else end + 40",
    ),
    "tombstones are not restored": Edit(
        "streams.shell.store",
        "Store._write_at_once",
        "batch.delete(key)",
        "pass",
    ),
    "steps count from nothing after a restart": Edit(
        "streams.shell.runner",
        "Runner.open",
        'self._step = known["step"]',
        "self._step = 0",
    ),
    "the number of waiting scans is forgotten": Edit(
        "streams.shell.runner",
        "Runner.open",
        'self._waiting = known["waiting"]',
        "self._waiting = 0",
    ),
    "restored before older owners are fenced": Edit(
        "streams.shell.runner",
        "Runner.open",
        "self._producer = TransactionalProducer(self._settings, self.name, self.room.partition, self._changelog)\n"
        "    self._directory = directory\n"
        "    self._store = Store(directory / self.part)\n"
        "    changelog = self._settings.topic(self._changelog)\n"
        "    self._position_consumer = log_consumer(self._settings)\n"
        "    restored = restore(self._store, self._position_consumer, changelog, self.room.partition)",
        "self._directory = directory\n"
        "    self._store = Store(directory / self.part)\n"
        "    changelog = self._settings.topic(self._changelog)\n"
        "    self._position_consumer = log_consumer(self._settings)\n"
        "    restored = restore(self._store, self._position_consumer, changelog, self.room.partition)\n"
        "    self._producer = TransactionalProducer(self._settings, self.name, self.room.partition, self._changelog)",
    ),
    "what came to wait is not counted": Edit(
        "streams.shell.stepping",
        "Stepping._compute",
        "self._waiting += step.waiting_more",
        "self._waiting = self._waiting",
    ),
    "an old store is trusted": Edit(
        "streams.shell.store",
        "Store.stale",
        "not 0 <= time.time() - self.as_of <= STALE_SECONDS_MAX",
        "False",
    ),
    "a store says it is as new as its writing": Edit(  # others may have gone on, and their tombstones may be gone
        "streams.shell.store",
        "Store.written",
        "self._pending[0].made_at",
        "time.time()",
    ),
    # Where inputs are read from.
    "seek one too far": Edit(
        "streams.shell.seeking",
        "Seeking._seek",
        "offsets[tp] = max(stored or 0, first[tp])",
        "offsets[tp] = max(stored + 1 if stored else 0, first[tp])",
    ),
    "seek one too early": Edit(
        "streams.shell.seeking",
        "Seeking._seek",
        "offsets[tp] = max(stored or 0, first[tp])",
        "offsets[tp] = max(stored - 1 if stored else 0, first[tp])",
    ),
    "seek to the group's offsets": Edit(
        "streams.shell.transport",
        "BatchConsumerThread._seek_runs",
        "consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), offset)",
        "consumer.assignment()",
    ),
    "a gap is passed over": Edit(
        "streams.shell.rooms",
        "Rooms.take",
        "if run.start > begin:",
        "if False:",
    ),
    "a lost partition is never opened again": Edit(
        "streams.shell.rooms",
        "_kept",
        "runner.lost is None and generation",
        "generation",
    ),
    # What steps see of each other.
    "a range misses what is on its way": Edit(
        "streams.shell.store",
        "Store.between",
        "if not on_way:",
        "if True:",
    ),
    "a key misses what is on its way": Edit(
        "streams.shell.store",
        "Store._look_farther",
        "for pending in reversed(tuple(self._pending)):",
        "for pending in ():",
    ),
    "the cache outlives the store": Edit(
        "streams.shell.store",
        "Store.apply",
        "self._remember(changes)",
        "[self._fresh.setdefault(key, value) for key, value in changes.items()]",
    ),
    "a step is off the way before it is on the disk": Edit(
        "streams.shell.store",
        "Store.written",
        "self.write(self._pending[0].changes, position, self._pending[0].made_at)",
        "step = self._pending.popleft(); self.write(step.changes, position, step.made_at); "
        "self._pending.appendleft(step)",
    ),
    # The sink.
    "a sink that reads uncommitted": Edit(
        "sinks.client_options",
        "client_options",
        '"read_committed"',
        '"read_uncommitted"',
    ),
    "offsets committed before the insert": Edit(
        "sinks.consuming",
        "Consuming._turn",
        "self._inserter.submit(batch)",
        "self._stored |= batch.positions; self._inserter.submit(batch)",
    ),
    "the sink commits one record too far": Edit(
        "sinks.consuming",
        "Consuming._reach",
        "offset + step",
        "offset + 2 * step",
    ),
    "the sink keeps what it read before its partitions were given back": Edit(
        "sinks.consuming",
        "Consuming._consume",
        "if self._generation != generation:",
        "if False:",
    ),
    "the sink believes a call that gave its partitions back": Edit(
        "sinks.consuming",
        "Consuming._consume",
        "self._begin_again()\n            return Fetched()",
        "generation, fetched = self._generation, Fetched()",
    ),
    "what a call that gave partitions back brought is not read again": Edit(
        "sinks.consuming",
        "Consuming._begin_again",
        "if places:",
        "if False:",
    ),
    "an insert that failed is not repeated": Edit(
        "sinks.inserting",
        "Inserter._insert",
        "continue",
        "return True",
    ),
    **planted_core.BUGS,
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """With that bug in the code; without any if None."""
    if name is None:
        yield
        return
    edit = BUGS[name]
    function = _function(edit)
    before = function.__code__
    function.__code__ = _edited(function, edit)
    try:
        yield
    finally:
        function.__code__ = before


def _function(edit: Edit) -> FunctionType:
    found = importlib.import_module(edit.module)
    for part in edit.function.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        found = found.fget
    assert isinstance(found, FunctionType), edit.function
    return found


def _edited(function: FunctionType, edit: Edit) -> CodeType:
    """The function's code, compiled from its changed text; it must not refer to what surrounds it."""
    text = textwrap.dedent(inspect.getsource(function))
    # Leading blanks of an edit's further lines are relative, as they would be in the function's own text.
    assert text.count(edit.old) == 1, f"{edit.function} holds this {text.count(edit.old)} times: {edit.old}"
    text = text.replace(edit.old, edit.new)
    code = compile(text, f"<planted in {edit.function}>", "exec")
    made = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)
    assert made.co_freevars == function.__code__.co_freevars
    return made
