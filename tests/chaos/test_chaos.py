"""The chaos itself: a small one must end with the same rows, and must see when rows are not the same."""

import json
import random
from pathlib import Path

import pytest

from sinks.tables import TABLES
from tests.chaos import rows
from tests.chaos.faults import KILLS, STOPS, drawn_kinds
from tests.chaos.rows import Difference, FoldError, differences
from tests.chaos.run import Options, run, summary
from tests.chaos.stage import Shape
from truyvet.config import Settings


def test_a_small_chaos_ends_with_the_same_rows(tmp_path: Path) -> None:
    """Each kind of fault at least once, on one node, under a steady flow: every view and every topic is the same."""
    shape = Shape(nodes=1, partitions=2, workers=2, session_timeout_ms=2_000)
    told: list[str] = []
    outcome = run(Options(kills=7, seed=1, rate=500, scale=0.02, days=7, shape=shape), tmp_path, told.append)
    report = "\n".join([*told, *summary(outcome)])
    assert outcome.same, report
    assert {fault.kind for fault in outcome.faults} == {*KILLS, *STOPS}
    assert outcome.under_flow >= len(outcome.faults) / 3, report


def test_every_kind_comes_often_enough() -> None:
    """A hundred kills are at least ten of each kind, and ten of each other kind come on top."""
    kinds = drawn_kinds(random.Random(1), 100)
    assert sum(kind in KILLS for kind in kinds) == 100
    assert min(kinds.count(kind) for kind in (*KILLS, *STOPS)) >= 10
    assert drawn_kinds(random.Random(1), 100) == kinds != drawn_kinds(random.Random(2), 100)


def _file(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([], [], []),
        (["1\ta", "2\tb"], ["1\ta", "2\tb"], []),
        (["1\ta", "2\tb", "3\tc"], ["1\ta", "3\tc"], [("2", "b", None)]),
        (["1\ta"], ["0\tx", "1\ta", "2\tb"], [("0", None, "x"), ("2", None, "b")]),
        (["1\ta", "2\tb"], ["1\tz", "2\tb"], [("1", "a", "z")]),
        (["1\ta", "1\ta"], ["1\ta"], [("1", "a", None)]),
    ],
)
def test_what_differs_is_found(
    tmp_path: Path, left: list[str], right: list[str], expected: list[tuple[str, str | None, str | None]]
) -> None:
    """A row lost, doubled, changed or made up is told with its key and what both sides have."""
    found = differences("t", _file(tmp_path / "left", *left), _file(tmp_path / "right", *right))
    assert list(found) == [Difference("t", *one) for one in expected]


def test_a_difference_is_told_with_both_contents() -> None:
    """The report shows the first of them, counts the others, and says that it is not the same."""
    told: list[str] = []
    many = (Difference("t", str(number), "was", None) for number in range(rows.SHOWN_MAX + 5))
    assert not rows.report(told.append, "left, right", many)
    assert told[0] == "left, right: 15 rows differ; the first 10:"
    assert told[1] == "  t 0\n    was\n    nothing"
    assert len(told) == 1 + rows.SHOWN_MAX
    assert rows.report(told.append, "left, right", iter(()))


def _visit(revision: int, status: str) -> bytes:
    return json.dumps({"visit_id": "v", "first_scan_at": "t", "status": status, "revision": revision}).encode()


def test_a_topic_is_folded_to_its_highest_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest revision counts wherever it stands, the same one twice is one; with two contents it is an error."""
    log = [_visit(1, "active"), _visit(3, "retracted"), _visit(2, "active"), _visit(3, "retracted")]
    monkeypatch.setattr(rows, "_records", lambda *_: iter(log))
    specs = {"visits": TABLES["visits"]}
    assert list(rows._folded(Settings(), "visits", [0], specs).values()) == [("visits", _visit(3, "retracted"))]
    log.append(_visit(3, "active"))
    with pytest.raises(FoldError, match=r"visits: .*two contents of revision 3"):
        rows._folded(Settings(), "visits", [0], specs)
