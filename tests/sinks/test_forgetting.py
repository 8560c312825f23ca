"""Forgetting a person in ClickHouse: rows, replaced rows, dead letters, files; nobody else's."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sinks import ddl, held
from sinks.backends import Backend, StorageError
from sinks.changing import Changing
from sinks.forgetting import forget
from tests.sinks import data
from tests.sinks.test_backends import rows, store
from truyvet.config import Settings

WHO = 0x9F86D081884C7D659A2FEAA0C55AD015
PERSON = data.PERSON.format(WHO)
OTHER = data.PERSON.format(2)
UNTIL = "2021-10-14T12:00:00.000Z"
UNTIL_MS = 1_634_212_800_000
AFTER = "2021-10-14T12:00:00.001Z"
TABLES = ("scans", "visits", "cases", "exposures", "rejects")


@pytest.fixture(autouse=True)
def _files_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddl, "OLD_PARTS_SECONDS", 0)


@pytest.fixture
def files_naming(request: pytest.FixtureRequest, backend_settings: Settings) -> Callable[[str], list[str]]:
    """The database's files in which a text stands."""
    if backend_settings.clickhouse == "embedded":
        folder = backend_settings.embedded_dir
    else:
        folder = request.getfixturevalue("clickhouse_server").directory / "data" / "data" / backend_settings.database

    def find(text: str) -> list[str]:
        return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in _bytes(path)]

    return find


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a file that goes while one looks
        return b""


def payload(**event: object) -> str:
    """A dead letter's payload."""
    return base64.b64encode(data.encoded(event)).decode()


def fill(backend: Backend) -> None:
    """A person's rows, each with a replaced version, and somebody else's beside them."""
    for revision in (1, 2):
        scans = [data.scan(n, day=12 + n, person=WHO, revision=revision, venue_id=f"V{revision}") for n in (1, 2)]
        scans += [data.scan(3, person=WHO, revision=revision, occurred_at=AFTER), data.scan(4, person=2)]
        store(backend, "enriched", scans)
        visits = [data.visit(n, day=12 + n, revision=revision, person_id=PERSON) for n in (1, 2)]
        store(backend, "visits", [*visits, data.visit(4, person_id=OTHER)])
        exposures = [data.exposure(1, day=13, revision=revision, person_id=PERSON, case_id="HN-9")]
        store(backend, "exposures", [*exposures, data.exposure(2, revision=revision, person_id=OTHER)])
        store(backend, "case-states", [data.case_state("HN-1", person_id=PERSON, revision=revision)])
    store(backend, "exposures", [data.exposure(3, person_id=OTHER, case_id="HN-9")])
    store(backend, "case-states", [data.case_state("HN-9", person_id=OTHER)])
    store(
        backend,
        "rejects",
        [
            data.reject(1, key=PERSON, payload=payload(person_id=PERSON, occurred_at=UNTIL)),
            data.reject(2, key="?", payload=payload(x="1", person_id=PERSON, occurred_at=AFTER)),
            data.reject(3, key=None, payload=base64.b64encode(f'{{"x":"{PERSON}'.encode()).decode()),
            data.reject(4, key=OTHER, payload=payload(xx="1", person_id=PERSON, reported_at=UNTIL)),
            data.reject(5, key=OTHER, payload=payload(person_id=OTHER, occurred_at=UNTIL)),
        ],
    )


def take_back(backend: Backend) -> None:
    """What the rooms send once they have taken the erasure; each as an insert of its own."""
    erased = [data.scan(n, day=12 + n, person=WHO, revision=3, status="erased") for n in (1, 2)]
    names = ("scan_id", "person_id", "occurred_at", "status", "revision")
    store(backend, "enriched", [{name: row[name] for name in names} for row in erased])
    visits = [data.visit(n, day=12 + n, revision=3, person_id=PERSON) for n in (1, 2)]
    store(backend, "visits", [data.bare("visits", row) for row in visits])
    own = data.exposure(1, day=13, revision=3, person_id=PERSON)
    others = data.exposure(2, revision=3, person_id=OTHER)
    store(backend, "exposures", [data.bare("exposures", own), data.bare("exposures", others)])
    case = {"case_id": "HN-1", "person_id": PERSON, "status": "erased", "revision": 3}
    store(backend, "case-states", [case])
    store(backend, "rejects", [data.reject(1, key=None, payload=None, revision=3)])


def everything(backend: Backend) -> dict[str, Any]:
    """All rows as stored, in order."""
    return {table: sorted(map(repr, rows(backend, f"SELECT * FROM {table}"))) for table in TABLES}


def test_all_that_is_from_before_goes(
    backend: Backend, backend_settings: Settings, files_naming: Callable[[str], list[str]]
) -> None:
    """Rows, bare rows and replaced rows of the person go, others' stay, and a second time changes nothing."""
    fill(backend)
    counts = held.count_rows(backend, PERSON, UNTIL_MS)
    assert counts == {
        "scans": (2, 1),
        "visits": (2, 0),
        "cases": (1, 0),
        "exposures": (1, 0),
        "rejects": (3, 1),
    }
    assert held.count_active(backend, PERSON, UNTIL_MS) == {"scans": 2, "visits": 2, "cases": 1, "exposures": 1}
    assert held.exposures_of_others(backend, PERSON, UNTIL_MS) == (1, 0)
    take_back(backend)
    assert held.count_active(backend, PERSON, UNTIL_MS) == {"scans": 0, "visits": 0, "cases": 0, "exposures": 0}
    assert held.exposures_of_others(backend, PERSON, UNTIL_MS) == (0, 1)
    assert files_naming("V1")
    changed = forget(backend, backend_settings.database, PERSON, UNTIL_MS)
    assert changed.tables == sorted(TABLES)
    assert held.count_rows(backend, PERSON, UNTIL_MS) == {
        "scans": (0, 1),
        "visits": (0, 0),
        "cases": (0, 0),
        "exposures": (0, 0),
        "rejects": (0, 1),
    }
    assert rows(backend, "SELECT scan_id, person_id FROM scans FINAL ORDER BY scan_id") == [
        ("s3", PERSON),
        ("s4", OTHER),
    ]
    assert rows(backend, "SELECT visit_id, person_id, status FROM visits FINAL ORDER BY visit_id") == [
        (f"{1:032x}", "", "retracted"),
        (f"{2:032x}", "", "retracted"),
        (f"{4:032x}", OTHER, "active"),
    ]
    assert rows(backend, "SELECT exposure_id, case_id, status FROM exposures ORDER BY exposure_id") == [
        (f"{2:032x}", "", "retracted"),
        (f"{3:032x}", "HN-9", "active"),
    ]
    assert rows(backend, "SELECT case_id FROM cases") == [("HN-9",)]
    assert rows(backend, "SELECT offset, key, payload IS NULL FROM rejects FINAL ORDER BY offset") == [
        (1, None, 1),
        (2, "?", 0),
        (3, None, 1),
        (4, None, 1),
        (5, OTHER, 0),
    ]
    before = everything(backend)
    assert forget(backend, backend_settings.database, PERSON, UNTIL_MS).tables == []
    assert everything(backend) == before


def test_no_file_names_the_person(
    backend: Backend, backend_settings: Settings, files_naming: Callable[[str], list[str]]
) -> None:
    """Afterwards the pseudonym stands in no file of the database, be it of rows or of what was done to them."""
    store(backend, "enriched", [data.scan(1, person=WHO)])
    store(backend, "visits", [data.visit(1, person_id=PERSON)])
    store(backend, "case-states", [data.case_state("HN-1", person_id=PERSON)])
    store(backend, "rejects", [data.reject(1, key=PERSON, payload=payload(person_id=PERSON))])
    encoded = max(held.base64_forms(PERSON.encode()), key=lambda form: len(files_naming(form)))
    assert files_naming(PERSON)
    assert files_naming(encoded)
    forget(backend, backend_settings.database, PERSON, UNTIL_MS)
    assert files_naming(PERSON) == []
    assert files_naming(encoded) == []
    assert rows(backend, "SELECT count() FROM forgetting") == [(0,)]


@pytest.mark.parametrize("steps", [0, 2, 5, 6, 7])
def test_killed_in_the_middle(
    backend: Backend, backend_settings: Settings, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after any change and run again, nothing of before is left, and no case or exposure stands again."""
    fill(backend)
    take_back(backend)
    done = 0

    def count(name: str) -> None:
        whole = getattr(Changing, name)

        def counted(self: Changing, *arguments: object) -> None:
            nonlocal done
            if done == steps:
                raise StorageError("killed")
            done += 1
            whole(self, *arguments)

        monkeypatch.setattr(Changing, name, counted)

    for name in ("mutate", "merge", "wait_until_off_disk"):
        count(name)
    try:
        forget(backend, backend_settings.database, PERSON, UNTIL_MS)
    except StorageError:
        assert done == steps
    monkeypatch.undo()
    assert held.count_active(backend, PERSON, UNTIL_MS) == {"scans": 0, "visits": 0, "cases": 0, "exposures": 0}
    forget(backend, backend_settings.database, PERSON, UNTIL_MS)
    assert {count.before for count in held.count_rows(backend, PERSON, UNTIL_MS).values()} == {0}
    assert held.exposures_of_others(backend, PERSON, UNTIL_MS) == (0, 0)
    assert rows(backend, "SELECT count() FROM exposures WHERE case_id = 'HN-1'") == [(0,)]
    assert rows(backend, "SELECT exposure_id FROM exposures FINAL WHERE status = 'active'") == [(f"{3:032x}",)]


def test_an_earlier_request_brings_no_erased_case_back(backend: Backend, backend_settings: Settings) -> None:
    """A bare row stands for reports that a later request erased: it does not go before what it replaced."""
    case = data.case_state("HN-1", person_id=PERSON, reported_at="2021-10-20T00:00:00.000Z")
    store(backend, "case-states", [case])
    store(backend, "case-states", [{"case_id": "HN-1", "person_id": PERSON, "status": "erased", "revision": 9}])
    forget(backend, backend_settings.database, PERSON, UNTIL_MS)
    assert rows(backend, "SELECT count() FROM cases") == [(0,)]


def test_the_file_of_a_mutation_left_behind_removes_nothing(backend: Backend, backend_settings: Settings) -> None:
    """A deletion that lost its list of persons, as after a restart of ClickHouse, leaves every row."""
    store(backend, "enriched", [data.scan(1, person=WHO), data.scan(2)])
    changing = Changing(backend, backend_settings.database)
    named = f"SELECT person_id FROM {changing.place(ddl.FORGETTING_TABLE)} WHERE run = 'gone'"
    changing.mutate("scans", f"DELETE WHERE person_id IN ({named}) AND occurred_at <= {UNTIL_MS}")
    assert rows(backend, "SELECT count() FROM scans") == [(2,)]


@pytest.mark.parametrize("before", range(4))
def test_base64_forms(before: int) -> None:
    """The pseudonym is found in base64 wherever it stands, and nobody else's is."""
    for text, found in ((PERSON, True), (OTHER, False)):
        encoded = base64.b64encode(b"x" * before + text.encode() + b"yz"[: before % 3]).decode()
        assert any(form in encoded for form in held.base64_forms(PERSON.encode())) is found


def test_every_table_that_names_persons_is_known() -> None:
    """A table with persons that forgetting does not know would keep them."""
    from sinks.tables import TABLES as SPECS  # noqa: PLC0415 - another name here

    naming = {spec.name for spec in SPECS.values() if any(c.name in ("person_id", "payload") for c in spec.columns)}
    assert naming == set(TABLES) == {*held.TIME_OF, "rejects"}
