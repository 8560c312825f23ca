"""Fixtures that start the real servers once a session, and settings that keep tests apart."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from infra.clickhouse import ClickHouseServer
from infra.kafka import KafkaBroker
from infra.topics import delete_topics
from truyvet.config import ENV_PREFIX, Settings

SettingsFactory = Callable[..., Settings]

# How long an example takes says more about what else runs on a shared machine than about the code.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")

_serial = itertools.count(1)


def wait_until(condition: Callable[[], bool], seconds_max: float = 10.0) -> bool:
    """Polls until the condition holds; False if it does not within the time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the one who runs the tests must not reach them."""
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A real broker, one for the whole session; a test that stops or kills a broker starts its own."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A real ClickHouse server, one for the whole session; tests keep to a database of their own."""
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
def settings(kafka_broker: KafkaBroker, tmp_path: Path) -> Iterator[SettingsFactory]:
    """Makes settings on the session's broker, with a topic prefix, database and folders of their own.

    Keyword arguments are settings and win. The prefix's topics are deleted after the test.
    """
    made: list[Settings] = []

    def make(**overrides: object) -> Settings:
        number = next(_serial)
        values: dict[str, object] = {
            "brokers": kafka_broker.brokers,
            "topic_prefix": f"t{number}.",
            "database": f"t{number}",
            "partitions": 2,
            "restating": True,
            "state_dir": tmp_path / f"state{number}",
            "embedded_dir": tmp_path / f"clickhouse{number}",
            "query_port": 0,
        }
        made.append(Settings.model_validate(values | overrides))
        return made[-1]

    yield make
    for one in made:
        if one.brokers == kafka_broker.brokers:
            delete_topics(one)
