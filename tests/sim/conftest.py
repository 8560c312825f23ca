"""Fixtures of the contract tests."""

from collections.abc import Iterator

import pytest

from infra.kafka import KafkaBroker
from tests.sim.kafka_contract import Fake, Kafka, Real

_SEEDS = 12
_BOTH = [*range(_SEEDS), "real"]


@pytest.fixture(params=_BOTH, ids=lambda one: one if one == "real" else f"fake{one}")
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """Either of the two."""
    if request.param != "real":
        yield Fake(request.param)
        return
    real = Real(request.getfixturevalue("kafka_broker"))
    yield real
    real.close()


@pytest.fixture(params=_BOTH, ids=lambda one: one if one == "real" else f"fake{one}")
def own_kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Either of the two; the real broker is the test's own, to be stopped."""
    if request.param != "real":
        yield Fake(request.param)
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka-away")) as server:
        real = Real(server)
        yield real
        real.close()
