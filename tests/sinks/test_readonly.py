"""Queries from outside can read the tables, and can do nothing else."""

from pathlib import Path

import pytest

from sinks.backends import Backend, QueryFailedError
from sinks.embedded import ChdbBackend
from sinks.readonly import PERSONAL, QueryRefusedError, check_read_only, personal_reads, shape_of
from truyvet.config import Settings

READING = [
    "SELECT 1",
    "select count() from v_scans;",
    "WITH 1 AS x SELECT x",
    "SHOW TABLES",
    "DESCRIBE TABLE scans",
    "EXISTS TABLE scans",
    "SELECT 'a;b', 'it''s', 'back\\'slash', \"name\", `code` FROM venues -- comment; DROP TABLE scans",
    "SELECT /* file('/etc/passwd') */ format('{}', 'x'), url FROM (SELECT 'u' AS url)",
    "SELECT * FROM (SELECT 'Chợ Hôm' AS `tên địa điểm`)",
]

WRITING = [
    "INSERT INTO identity VALUES ('x', 1)",
    "WITH 1 AS x INSERT INTO identity SELECT 'x', 1",
    "DROP TABLE scans",
    "ALTER TABLE scans DELETE WHERE 1",
    "TRUNCATE TABLE scans",
    "OPTIMIZE TABLE scans FINAL",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a Int8)",
    "ATTACH TABLE t (a Int8) ENGINE = Memory",
    "RENAME TABLE scans TO other",
    "SET readonly = 0",
    "SYSTEM FLUSH LOGS",
    "KILL QUERY WHERE 1",
    "USE default",
    "GRANT ALL ON *.* TO default",
    "EXPLAIN SELECT 1",
]

REACHING_OUT = [
    "SELECT 1; DROP TABLE scans",
    "SELECT * FROM file('{secret}', 'CSV', 'a String')",
    "SELECT * FROM file/**/('{secret}')",
    "SELECT * FROM `file`('{secret}')",
    "SELECT * FROM \"FILE\" ( '{secret}' )",
    "SELECT file('{secret}')",
    "SELECT * APPLY(file) FROM (SELECT '{secret}' AS path)",
    "SELECT * APPLY file FROM (SELECT '{secret}' AS path)",
    "SELECT arrayMap(file, ['{secret}'])",
    "DESCRIBE TABLE file('{secret}')",
    "DESCRIBE TABLE url('http://127.0.0.1:1/', 'CSV')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
    "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
    "SELECT * FROM executable('/bin/ls', 'CSV', 'a String')",
    "SELECT * FROM sqlite('{secret}', 't')",
    "SELECT * FROM view(SELECT * FROM file('{secret}', 'CSV', 'a String'))",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM python(secret)",
    "SELECT * FROM filesystem('/')",
    'SELECT * FROM default."{secret}"',
    "SELECT * FROM `{secret}`",
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 INTO/**/OUTFILE '{out}' FORMAT CSV",
    "SELECT 1 FORMAT Null",
    "SELECT sleep(3)",
    "SELECT aiGenerate('x')",
    "SELECT $$text$$",
    "SELECT 'open",
    "SELECT 1 /* open",
    "SELECT “1”",
    "",
    " ; ",
]


@pytest.mark.parametrize("sql", READING)
def test_reading_is_allowed(sql: str) -> None:
    """Statements that read tables pass, whatever their strings and comments hold."""
    assert check_read_only(sql)


@pytest.mark.parametrize("sql", WRITING + REACHING_OUT)
def test_anything_else_is_refused(sql: str) -> None:
    """Writes, settings, files, networks, several statements and unknown characters do not pass the check."""
    with pytest.raises(QueryRefusedError):
        check_read_only(sql)


def test_a_table_function_the_engine_brings_is_refused() -> None:
    """A table function that nobody looked at is refused once the engine lists it."""
    assert check_read_only("SELECT * FROM novelty('x')")
    with pytest.raises(QueryRefusedError, match="novelty"):
        check_read_only("SELECT * FROM novelty('x')", {"novelty"})


def test_long_queries_are_refused() -> None:
    """A query is bounded."""
    with pytest.raises(QueryRefusedError, match="characters"):
        check_read_only("SELECT 1" + " " * 100_000)


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("SELECT 1 AS one", []),
        ("SELECT 'visits' AS text FROM v_area_day -- scans", []),
        ("SELECT count() FROM v_visits", ["v_visits"]),
        ("SELECT * FROM checkin.`visits` FINAL", ["visits"]),
        ('SELECT * FROM (SELECT 1) AS x ANY INNER JOIN (SELECT * FROM "scans") AS y USING (a)', ["scans"]),
        ("SELECT * FROM view(SELECT * FROM exposures)", ["exposures"]),
        ("SELECT * FROM merge(currentDatabase(), '^vis')", sorted(PERSONAL)),
    ],
)
def test_reads_about_persons_are_known(sql: str, read: list[str]) -> None:
    """A query is known to read about persons wherever it names such a table, and wherever a pattern may."""
    assert personal_reads(check_read_only(sql)) == read


def test_personal_tables_are_those_with_persons() -> None:
    """Every table that holds a pseudonym or a payload, and every view over one; no cell and no venue."""
    assert sorted(PERSONAL) == [
        "cases",
        "exposures",
        "rejects",
        "scans",
        "v_exposures",
        "v_scans",
        "v_visits",
        "visits",
    ]


def test_the_shape_of_a_query_holds_no_value() -> None:
    """Texts, numbers, comments, and names too long or too odd to be a column's never reach the log."""
    person = "a" * 32
    sql = f"SELECT {person}, \"091 234\", `day` FROM visits WHERE person_id = '{person}' AND day > 20211014 -- {person}"
    assert shape_of(check_read_only(sql)) == "SELECT ? , ? , `day` FROM visits WHERE person_id = ? AND day > ?"


def test_nothing_gets_through_a_backend(backend: Backend, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """On a real database each is refused, and neither rows nor files appear."""
    secret = tmp_path / "secret.csv"
    secret.write_text("abc\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    before = backend.query("SELECT count(), min(id) FROM identity")[1]
    for sql in WRITING + REACHING_OUT:
        with subtests.test(sql), pytest.raises((QueryRefusedError, QueryFailedError)):
            backend.query(sql.replace("{secret}", str(secret)).replace("{out}", str(out)))
    assert not out.exists()
    assert backend.query("SELECT count(), min(id) FROM identity")[1] == before


def test_the_engine_refuses_by_itself(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The second lock: without the check, the embedded database's read-only connection still refuses to write."""
    settings = Settings.model_validate({"embedded_dir": tmp_path / "db", "database": "t"})
    with ChdbBackend(settings) as backend:
        backend.ensure_schema()
        reader = backend._open_reader()
        for sql in WRITING:
            if not sql.startswith(("EXPLAIN", "USE", "KILL")):
                with subtests.test(sql), pytest.raises(RuntimeError):
                    reader.query(sql, "JSONCompact")
        for function in ("file('x', 'CSV', 'a String')", "url('http://127.0.0.1:1/', 'CSV', 'a String')"):
            with subtests.test(function), pytest.raises(RuntimeError, match="READONLY"):
                reader.query(f"SELECT * FROM {function}", "JSONCompact")


def test_reading_works_on_a_backend(backend: Backend) -> None:
    """The allowed statements are answered."""
    assert backend.query("SELECT 1 AS one, 'x' AS text, NULL AS nothing;") == (
        ["one", "text", "nothing"],
        [(1, "x", None)],
    )
    assert ("v_scans",) in backend.query("SHOW TABLES")[1]
    assert backend.query("EXISTS TABLE scans")[1] == [(1,)]
    assert backend.query("SELECT toDate('2021-10-14') AS day")[1] == [("2021-10-14",)]
    with pytest.raises(QueryFailedError):
        backend.query("SELECT nonsense FROM scans")
