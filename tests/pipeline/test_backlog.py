"""The estimate of when a backlog will be worked off: its arithmetic."""

import pytest

from truyvet.backlog import BACKLOG_RECORDS_MIN, PAUSE_SECONDS_MIN, Backlog, Place, duration

LEFT = 1_000_000


def _work(backlog: Backlog, *, at: float, settled: int, end: int, seconds: int, rate: int, coming: int = 0) -> float:
    """Works for some seconds, a look a second; the time afterwards."""
    for second in range(seconds + 1):
        backlog.see(at + second, Place(settled + rate * second, end + coming * second))
    return at + seconds


def test_what_is_left_over_what_is_worked_off_beyond_what_comes_in() -> None:
    """1,000/s worked off and 200/s coming in work off 800/s."""
    backlog = Backlog()
    _work(backlog, at=5.0, settled=70, end=70 + LEFT, seconds=50, rate=1_000, coming=200)
    estimate = backlog.estimate()
    assert estimate.records == LEFT - 50 * 800
    assert estimate.per_second == pytest.approx(1_000)
    assert estimate.coming_per_second == pytest.approx(200)
    assert estimate.seconds == pytest.approx((LEFT - 50 * 800) / 800)
    assert estimate.text() == "960,000 records behind, 1,000/s, caught up in 20 min"


@pytest.mark.parametrize("coming", [1_000, 1_500])
def test_an_input_that_is_faster_is_said_to_be(coming: int) -> None:
    """No time is named that would never come; as soon as the input slows down, there is one again."""
    backlog = Backlog()
    now = _work(backlog, at=0.0, settled=0, end=LEFT, seconds=130, rate=1_000, coming=coming)
    estimate = backlog.estimate()
    assert estimate.seconds is None
    assert estimate.falling_behind
    assert "falling behind" in estimate.text()
    end = LEFT + 130 * coming
    _work(backlog, at=now + 1, settled=131_000, end=end, seconds=130, rate=1_000)
    assert backlog.estimate().seconds == pytest.approx((end - 261_000) / 1_000)


def test_a_pause_makes_nothing_slower() -> None:
    """Ten minutes without a look, and ten in which nothing moves, change the estimate by their first seconds."""
    backlog = Backlog()
    now = _work(backlog, at=0.0, settled=0, end=LEFT, seconds=100, rate=1_000)
    now += 600.0
    backlog.see(now, Place(100_000, LEFT))
    for _ in range(600):
        now += 1.0
        backlog.see(now, Place(100_000, LEFT))
    assert backlog.estimate().seconds == pytest.approx(900)
    _work(backlog, at=now + 1, settled=101_000, end=LEFT, seconds=20, rate=1_000)
    assert backlog.estimate().seconds == pytest.approx(879, rel=1.5 * PAUSE_SECONDS_MIN / 100)


def test_steps_of_some_seconds_are_no_pause() -> None:
    """A worker whose steps settle 8,000 records every eight seconds works off 1,000/s."""
    backlog = Backlog()
    for second in range(101):
        backlog.see(float(second), Place(second // 8 * 8_000, LEFT))
    assert backlog.estimate().per_second == pytest.approx(1_000)


@pytest.mark.parametrize(("first", "second"), [(1_500, 100), (800, 800), (500, 500)])
def test_what_waits_brings_more_with_it_whoever_is_ahead(first: int, second: int) -> None:
    """Each record outside brings one inside: at 1,000/s to 1,600/s in all, twice the records are left to do."""
    backlog = Backlog()
    for at in range(61):
        backlog.see(float(at), Place(first * at, LEFT), Place(second * at, first * at))
    left = 2 * (LEFT - first * 60) + (first - second) * 60
    assert backlog.estimate().seconds == pytest.approx(left / (first + second))
    assert not backlog.estimate().falling_behind


def test_nothing_is_promised_before_something_was_seen() -> None:
    """Right after a start there is a backlog and no estimate; other inputs are seen afresh."""
    backlog = Backlog()
    _work(backlog, at=0.0, settled=0, end=LEFT, seconds=3, rate=1_000)
    assert backlog.estimate().seconds is None
    assert not backlog.estimate().falling_behind
    _work(backlog, at=4.0, settled=4_000, end=LEFT, seconds=10, rate=1_000)
    assert backlog.estimate().seconds is not None
    backlog.forget()
    assert backlog.estimate().seconds is None


def test_it_is_said_after_seconds_then_once_a_minute_then_that_it_is_over() -> None:
    """A backlog of a moment is not worth a line."""
    backlog = Backlog()
    backlog.see(0.0, Place(0, LEFT))
    backlog.see(5.0, Place(LEFT - 10, LEFT))
    assert backlog.due(5.0) is None
    said = []
    for second in range(10, 200):
        backlog.see(float(second), Place(LEFT, 2 * LEFT if second < 190 else LEFT + BACKLOG_RECORDS_MIN - 1))
        said.append((second, backlog.due(float(second))))
    assert [(second, what) for second, what in said if what] == [
        (20, "catching up"),
        (80, "catching up"),
        (140, "catching up"),
        (190, "caught up"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3_570, "1 h 0 min"), (18_600, "5 h 10 min"), (2_343_600, "27 d 3 h")],
)
def test_durations_are_said_roughly(seconds: float, text: str) -> None:
    """To two units."""
    assert duration(seconds) == text
