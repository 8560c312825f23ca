"""Inputs through the real thing: broker, workers, sink, ClickHouse; and every way law 1 allows to vary them."""

import argparse
import json
import random
import shutil
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from infra.topics import ensure_topics
from producers.feed import Feed, FeedError
from producers.lines import Line
from producers.replay import replay_settings
from streams.core.partition import partition_of
from streams.shell.restore import log_consumer
from tests.conftest import SettingsFactory
from tests.golden.compare import CELL_KEYS, DATA, compare, compare_views, read_rows
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.naive import naive_views
from tests.pipeline.running import run_stack
from truyvet.config import ConfigError
from truyvet.rulesets import SHIPPED_DIR

VIEWS = ("scans", "visits", "cases", "exposures", *CELL_KEYS)
TABLES = (*VIEWS, "rejects")
CASES = sorted(path for path in DATA.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_cases_on_the_real_thing(case: Path, settings: SettingsFactory, tmp_path: Path) -> None:
    """Every golden case comes out of ClickHouse as SPEC gives it."""
    run_stack(settings, case / "in", tmp_path / "out")
    assert not compare(case, tmp_path / "out", TABLES)


VARIANTS = {
    "1 partition, 1 worker, in order": (1, 1, "once"),
    "12 partitions, 3 workers, shuffled": (12, 3, "shuffled"),
    "12 partitions, 1 worker, three times and shuffled": (12, 1, "tripled"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_partitions_workers_order_and_copies_change_no_view(
    variant: str, settings: SettingsFactory, tmp_path: Path
) -> None:
    """Law 1 on the real broker: the naive checker's views, however the input is spread, ordered and repeated."""
    partitions, workers, how = VARIANTS[variant]
    files = random_input(4712, order_free=True)
    expected = naive_views(files)
    sent = {"once": files, "shuffled": shuffled(files, 1), "tripled": shuffled(tripled(files), 2)}[how]
    sent.write(tmp_path / "in")
    run_stack(settings, tmp_path / "in", tmp_path / "out", partitions=partitions, workers=workers)
    assert not compare_views(expected, tmp_path / "out", TABLES if how == "once" else VIEWS)
    assert expected["exposures"], "an input without exposures proves little"


def test_a_line_of_megabytes_is_a_reject(settings: SettingsFactory, tmp_path: Path) -> None:
    """A value far beyond 64 KiB, in a file whose first line states no time, is one row of rejects and no more."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scans.jsonl").write_bytes(b'{"x": "' + b"x" * 2_500_000 + b'"}\n\n[1]\n')
    run_stack(settings, tmp_path / "in", tmp_path / "out")
    rows = sorted(read_rows(tmp_path / "out" / "rejects.jsonl"), key=lambda row: str(row["reason"]))
    assert [row["reason"] for row in rows] == ["oversized", "schema_violation"]
    assert "2500009 bytes" in rows[0]["detail"]
    assert rows[0]["payload"] is None, "what is too large is never made"
    assert {row["record_at"] for row in rows} == {"1970-01-01T00:00:00.000Z"}


def test_a_line_that_the_broker_refuses_is_said(settings: SettingsFactory) -> None:
    """A value beyond what the topic takes is not lost in silence."""
    chosen = settings()
    ensure_topics(chosen)
    value = random.Random(1).randbytes(5_000_000)  # noqa: S311 - bytes that do not shrink
    for at_ms, value_or_more in (1, value), (0, value), (1, 2 * value), (0, 2 * value):
        with pytest.raises(FeedError, match=r"^scans.jsonl, line 7: was not taken"):
            Feed(chosen).send("scans", [Line(b"key", value_or_more, at_ms, 7)], source="scans.jsonl")


def test_a_timestamp_of_nought_is_sent_as_it_is(settings: SettingsFactory) -> None:
    """Lines of the beginning of 1970 are none of today, and stay in their order with those around them."""
    chosen = settings(partitions=3)
    ensure_topics(chosen)
    source = random.Random(1)  # noqa: S311 - nothing secret
    lines = [
        Line(source.choice([None, b"", b"a", b"b", b"c"]), b"%d" % number, source.choice([0, 1, 5, 1_634_173_200_000]))
        for number in range(3_000)
        if not 1_000 < number < 2_200
    ] + [Line(b"a", b"%d" % number, number) for number in range(3_000, 5_000)]
    assert Feed(chosen).send("scans", lines) == len(lines)
    consumer = log_consumer(chosen)
    found: dict[bytes | None, list[tuple[bytes | None, int]]] = {}
    try:
        consumer.assign([TopicPartition(chosen.topic("scans"), partition, 0) for partition in range(3)])
        while sum(map(len, found.values())) < len(lines):
            for message in consumer.consume(1_000, 1.0):
                if message.error() is None:
                    assert message.headers() is None
                    assert message.key() is None or message.partition() == partition_of(message.key() or b"", 3)
                    found.setdefault(message.key(), []).append((message.value(), message.timestamp()[1]))
    finally:
        consumer.close()
    for key in {line.key for line in lines} - {None}:
        assert found[key] == [(line.value, line.timestamp_ms) for line in lines if line.key == key]
    assert sorted(found[None]) == sorted((line.value, line.timestamp_ms) for line in lines if line.key is None)


def test_a_folder_as_people_make_it(settings: SettingsFactory, tmp_path: Path) -> None:
    """Byte order marks, lines of the register that are no venues, rulesets of its own instead of the shipped ones."""
    given = DATA / "10-exposures" / "in"
    shutil.copytree(given, tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with (tmp_path / "in" / "venues.jsonl").open("ab") as file:
        file.write(b'\n[1]\n{"broken\n')
    rules = (SHIPPED_DIR / "vn-2021-12.toml").read_text(encoding="utf-8")
    (tmp_path / "in" / "rulesets").mkdir()
    (tmp_path / "in" / "rulesets" / "own.toml").write_text(rules.replace("vn-2021-12", "own"), encoding="utf-8")
    with (tmp_path / "in" / "cases.jsonl").open("a", encoding="utf-8") as file:
        report = json.loads((given / "cases.jsonl").read_text(encoding="utf-8").splitlines()[0])
        file.write("\n" + json.dumps(report | {"case_id": "own", "ruleset": "own"}))
    run_stack(settings, tmp_path / "in", tmp_path / "out")
    assert [row["case_id"] for row in read_rows(tmp_path / "out" / "cases.jsonl")] == ["own"]
    rejects = read_rows(tmp_path / "out" / "rejects.jsonl")
    assert {row["ruleset"] for row in read_rows(tmp_path / "out" / "exposures.jsonl")} == {"own"}
    lines = (given / "venues.jsonl").read_bytes().rstrip(b"\n").count(b"\n") + 1
    expected = {(f"line-{lines + 2}", "schema_violation"), (f"line-{lines + 3}", "malformed_json")}
    assert {(row["key"], row["reason"]) for row in rejects if row["topic"].endswith("venues")} == expected
    assert {row["reason"] for row in rejects if row["topic"].endswith("cases")} == {"unknown_ruleset"}


def test_a_bad_ruleset_of_the_folder_is_said(tmp_path: Path) -> None:
    """It is wrong usage, and the sentence names the file; nothing is started."""
    (tmp_path / "rulesets").mkdir()
    (tmp_path / "scans.jsonl").write_bytes(b"")
    (tmp_path / "rulesets" / "mine.toml").write_text("name = 7", encoding="utf-8")
    arguments = argparse.Namespace(directory=tmp_path, workers=1, partitions=None)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        replay_settings(arguments)
    (tmp_path / "rulesets" / "mine.toml").rename(tmp_path / "rulesets" / "mine.txt")
    assert replay_settings(arguments).rulesets_shipped
