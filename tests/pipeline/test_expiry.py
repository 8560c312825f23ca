"""Retention in a real worker: at the end of its inputs it lets go of what is too old, also where it is killed."""

from pathlib import Path

from producers.feed import Feed
from producers.lines import SCANS, VENUES
from streams.core.times import DAY_MS, format_ms
from streams.shell.store import Store
from tests.conftest import SettingsFactory, wait_until
from tests.core.pipeline import CLOCK
from tests.pipeline.months import FIRST_MS, scans, venues
from tests.pipeline.running import Rows, stored_rows
from truyvet.drain import Drain
from truyvet.stack import Stack

PARTITIONS = 2
LAST_DAY = 40
SECONDS_MAX = 180.0


def _run(settings: SettingsFactory, out: Path, *, expires: bool) -> tuple[Rows, dict[bytes, int]]:
    """Three days and, long after, another; its rows, and how many keys of each kind the stores hold at the end."""
    chosen = settings(partitions=PARTITIONS, restating=True, rehearse_expiry=expires)
    with Stack(chosen, workers=1, own_broker=False) as stack:
        drain, feed = Drain(stack), Feed(stack.settings)
        feed.send(VENUES.topic, venues())
        drain.wait(drain.processed)
        for day in (0, 1, 2, LAST_DAY):
            feed.send(SCANS.topic, scans(day, 3_000))
            drain.wait(drain.settled)
        if expires:
            stack.kill_worker(0)
            stack.start_worker(0)
            wanted = format_ms(CLOCK.day_start(FIRST_MS + (LAST_DAY - 29) * DAY_MS))
            assert wait_until(lambda: _expired(drain) == {wanted}, SECONDS_MAX)
        feed.send(SCANS.topic, scans(LAST_DAY + 1, 500))
        drain.wait(drain.settled)
        drain.close()
        rows = stored_rows(stack, out)
        stack.stop_worker(0)
        return rows, _kinds(stack)


def _expired(drain: Drain) -> set[str | None]:
    rooms = drain.rooms()
    return {room["expired"] for room in rooms.values()} if len(rooms) == 2 * PARTITIONS else set()


def _kinds(stack: Stack) -> dict[bytes, int]:
    """Keys of what counts by day or time, by their first letter."""
    found: dict[bytes, int] = {}
    for room in ("person", "venue"):
        for partition in range(PARTITIONS):
            [folder] = stack.settings.state_dir.glob(f"**/{room}-{partition}")
            store = Store(folder)
            for tag in (b"a", b"h", b"k", b"m", b"p", b"v"):
                found[tag] = found.get(tag, 0) + len(store.scan(tag, 1_000_000))
            store.close()
    return found


def test_a_worker_lets_go_of_old_days_and_no_row_changes(settings: SettingsFactory, tmp_path: Path) -> None:
    """Killed in the middle of it and started again, it ends with the last days in state, and with all rows."""
    kept, held = _run(settings, tmp_path / "kept", expires=False)
    rows, left = _run(settings, tmp_path / "expired", expires=True)
    assert rows == kept
    for tag, count in left.items():
        assert 0 < count < held[tag] / 2, tag
