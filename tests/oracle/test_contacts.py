"""The naive checker's visits and exposures: the golden rows, and examples worked out by hand."""

from pathlib import Path

import pytest

from tests.golden.compare import DATA, compare_rows, read_rows
from tests.oracle.files import Files
from tests.oracle.naive import naive_views

WITHOUT_ERASURES = sorted(path for path in DATA.iterdir() if path.is_dir() and not path.name.startswith("16"))


@pytest.mark.parametrize("case", WITHOUT_ERASURES, ids=lambda path: path.name)
@pytest.mark.parametrize("table", ["visits", "exposures"])
def test_golden_rows(case: Path, table: str) -> None:
    """Every golden visit and exposure, and no other."""
    views = naive_views(Files.read(case / "in"))
    assert compare_rows(table, read_rows(case / "expected" / f"{table}.jsonl"), views[table]) == []
