"""Bugs planted in what follows from events; ``planted.py`` has the others."""

from typing import Final, NamedTuple


class Edit(NamedTuple):
    """In ``function`` of ``module``, ``old`` becomes ``new``."""

    module: str
    function: str
    old: str
    new: str


BUGS: Final[dict[str, Edit]] = {
    "a scan that was accepted waits on": Edit(
        "streams.core.person",
        "take_waiting",
        "waiting.drop(step, state, scan.code, scan.person, scan.scan_id)",
        "pass",
    ),
    "a cell begins anew with each step": Edit(
        "streams.core.cells",
        "store",
        "tally.ward_minutes(state,",
        "tally.ward_minutes(type('Nothing', (), {'get_many': lambda _, keys: [None] * len(keys)})(),",
    ),
    "a visit's earlier version stays": Edit(
        "streams.core.proximity",
        "take_visits",
        "nets: dict",
        "step.changes = {key: value for key, value in step.changes.items() if value is not None}; nets: dict",
    ),
    "expiry a day early": Edit(
        "streams.core.expiry",
        "cutoffs",
        "room.clock.day_start(newest_ms - room.retention_ms - _MARGIN_MS)",
        "room.clock.day_start(newest_ms - room.retention_ms + _MARGIN_MS)",
    ),
    "an erasure takes the scans and leaves the cases": Edit(
        "streams.core.erasure",
        "_erase_cases",
        "if report.reported_ms > forget.until_ms:",
        "if True:",
    ),
    "a dead letter that was accepted later stays open": Edit(
        "streams.core.intake",
        "Desk.settle",
        "if came.attempt:",
        "if False:",
    ),
    "a lost retraction": Edit(
        "streams.core.visit_changes",
        "VisitChanges.emit",
        "self._replace(visit, wire.retracted_visit(identity, visit, number))",
        "pass",
    ),
    "a case that is withdrawn keeps its exposures": Edit(
        "streams.core.case_visits",
        "Sender.send",
        'record = CaseVisit(case_id, identity, self._cause, interval, "retracted")',
        "return",
    ),
    "expiry by wall clock": Edit(
        "streams.shell.runner",
        "Runner._believed_ms",
        "min(self._newest_ms, int(time.time() * 1000) + FUTURE_MS_MAX)",
        "int(time.time() * 1000)",
    ),
    "expiry before the inputs are read": Edit(
        "streams.shell.runner",
        "Runner.expire",
        "if not at_end() or not await all_read():",
        "if not at_end():",
    ),
    "a sweep that was cut short counts as done": Edit(  # what is left stays, which law and privacy forbid
        "streams.shell.runner",
        "Runner.expire",
        "if self.idle_for_good or not at_end():\n                return",
        "if self.idle_for_good or not at_end():\n                break",
    ),
    "a first-today mark not undone": Edit(
        "streams.core.held_scans",
        "HeldScans._drop_keys",
        "self._changes[keys.person_day(self._person, clock.place(scan.occurred_ms)[2])] = None",
        "pass",
    ),
    "the end of the changelog is asked after the commit": Edit(
        "streams.shell.runner",
        "Runner._commit",
        "self._store.written(position)",
        "self._store.written(self._changelog_position())",
    ),
    "what an assignment fetches before it is sought is taken": Edit(
        "streams.shell.transport",
        "BatchConsumerThread._runs",
        "if start is None or self._assignments[tp] is not consumer._subscription.subscription.assignment:",
        "if start is None:",
    ),
    "other partitions do not hear of an erasure": Edit(
        "streams.core.erasure",
        "_tell_others",
        "if partition != room.partition:",
        "if False:",
    ),
    "a copy counts": Edit(
        "streams.core.person",
        "_take_scan",
        'return "duplicate"',
        "pass",
    ),
}
