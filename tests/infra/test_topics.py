"""The registry of topics and what ensure_topics makes of it on a real broker."""

import itertools

import pytest
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from infra.topics import TOPICS, admin_client, check_topics, delete_topics, ensure_topics
from tests.conftest import SettingsFactory, wait_until
from truyvet.config import ConfigError, Settings

LONG_MAX = str(2**63 - 1)
DAY_MS = 86_400_000

# SPEC, section 1, read once more by hand: name, direction, public, cleanup, days.
SPEC_TABLE = {
    "scans": ("in", True, "delete", 30),
    "venues": ("in", True, "compact", None),
    "cases": ("in", True, "delete", 90),
    "erasures": ("in", True, "delete", 90),
    "returns": ("in", False, "delete", 30),
    "enriched": ("out", True, "delete", 28),
    "visits": ("out", True, "delete", 28),
    "case-visits": ("internal", False, "delete", 28),
    "venue-marks": ("internal", False, "delete", 28),
    "aggregates": ("out", True, "compact,delete", 400),
    "case-states": ("out", False, "delete", 90),
    "exposures": ("out", True, "delete", 90),
    "rejects": ("out", False, "delete", 28),
    "state-person": ("internal", False, "compact", None),
    "state-venue": ("internal", False, "compact", None),
}


def _describe(settings: Settings) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, settings.topic(spec.name)) for spec in TOPICS]
    admin = admin_client(settings)
    futures = admin.describe_configs(resources)
    return {
        resource.name.removeprefix(settings.topic_prefix): {e.name: e.value for e in future.result().values()}
        for resource, future in futures.items()
    }


def test_the_registry_is_the_table_of_the_specification() -> None:
    """Names, directions, cleanup and retention are those of SPEC, and nothing else is there."""
    found = {spec.name: (spec.direction, spec.public, spec.cleanup, spec.retention_days) for spec in TOPICS}
    assert found == SPEC_TABLE


def test_production_topics_have_append_time_on_inputs_and_their_retention(settings: SettingsFactory) -> None:
    """No producer's clock can push time, and every topic is kept as long as SPEC says."""
    production = settings(restating=False, partitions=3)
    ensure_topics(production)
    for name, config in _describe(production).items():
        direction, _, cleanup, days = SPEC_TABLE[name]
        assert set(config["cleanup.policy"].split(",")) == set(cleanup.split(","))
        assert config["message.timestamp.type"] == ("LogAppendTime" if direction == "in" else "CreateTime")
        if days is not None:
            assert config["retention.ms"] == str(days * DAY_MS)
        assert int(config["max.message.bytes"]) == (
            4 * 2**20 if direction == "in" or name in {"rejects", "state-person", "state-venue"} else 2**20
        )
    assert check_topics(production) == []
    topics = admin_client(production).list_topics(timeout=10).topics
    assert {len(topics[production.topic(spec.name)].partitions) for spec in TOPICS} == {3}


def test_restated_history_is_never_deleted_and_keeps_its_own_times(settings: SettingsFactory) -> None:
    """Records of 2021 or of 2099 are taken with their own timestamps, and no time limit removes them."""
    restating = settings(restating=True)
    ensure_topics(restating)
    for config in _describe(restating).values():
        assert config["message.timestamp.type"] == "CreateTime"
        assert config["retention.ms"] == "-1"
        assert config["message.timestamp.after.max.ms"] == LONG_MAX
        assert config["message.timestamp.before.max.ms"] == LONG_MAX


def test_existing_topics_are_left_and_missing_ones_are_made(settings: SettingsFactory) -> None:
    """A second call changes nothing; a topic that went missing comes back."""
    mine = settings()
    assert len(check_topics(mine)) == len(TOPICS)
    ensure_topics(mine)
    ensure_topics(mine)
    admin = admin_client(mine)
    admin.delete_topics([mine.topic("visits")])[mine.topic("visits")].result()
    assert wait_until(lambda: mine.topic("visits") not in admin.list_topics(timeout=10).topics)
    assert check_topics(mine) == [mine.topic("visits")]
    ensure_topics(mine)
    assert check_topics(mine) == []
    delete_topics(mine)
    assert len(check_topics(mine)) == len(TOPICS)


def _mismatches() -> list[tuple[dict[str, str], int, str]]:
    good = {"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}
    return [
        (good, 1, r"TRUYVET_PARTITIONS: topic t\d+\.scans has 1 partitions, not 2"),
        (good | {"cleanup.policy": "compact"}, 2, r"topic t\d+\.scans: cleanup\.policy is compact, must be delete"),
        (
            good | {"message.timestamp.type": "LogAppendTime"},
            2,
            r"topic t\d+\.scans: message\.timestamp\.type is LogAppendTime, must be CreateTime",
        ),
    ]


@pytest.mark.parametrize(("config", "partitions", "sentence"), _mismatches())
def test_a_mismatch_names_topic_and_setting(
    settings: SettingsFactory, config: dict[str, str], partitions: int, sentence: str
) -> None:
    """A topic that someone made otherwise is an error of configuration, and nothing else is created."""
    mine = settings()
    topic = NewTopic(mine.topic("scans"), partitions, config=config)
    admin = admin_client(mine)
    admin.create_topics([topic])[mine.topic("scans")].result()
    for call in (ensure_topics, check_topics):
        with pytest.raises(ConfigError, match=sentence):
            call(mine)
    names = admin.list_topics(timeout=10).topics
    assert [name for name in names if name.startswith(mine.topic_prefix)] == [mine.topic("scans")]


def test_topic_names_are_unique() -> None:
    """No topic is registered twice."""
    names = sorted(spec.name for spec in TOPICS)
    assert all(one < other for one, other in itertools.pairwise(names))
