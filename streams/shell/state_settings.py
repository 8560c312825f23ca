"""Settings that a state was made with: of some another value would make the state wrong."""

from collections.abc import Mapping

from truyvet import logs
from truyvet.config import ConfigError, Settings

log = logs.get("room")


def check_settings(part: str, known: Mapping[str, object], settings: Settings) -> None:
    """Compares what the record ``META`` of a room partition says with the settings now.

    Raises:
        ConfigError: the state is of another number of partitions, or counts days in another zone.
    """
    partitions, zone = known.get("partitions"), known.get("timezone")
    if partitions not in (None, settings.partitions):
        raise ConfigError(
            f"TRUYVET_PARTITIONS: the state of {part} is of {partitions} partitions, not {settings.partitions};"
            " another count is a replay into a new prefix"
        )
    if zone not in (None, settings.report_timezone):
        raise ConfigError(
            f"TRUYVET_REPORT_TIMEZONE: the state of {part} counts days in {zone}, not in {settings.report_timezone};"
            " another zone is a replay into a new prefix"
        )
    retention_ms = known.get("retention_ms")
    if retention_ms not in (None, settings.retention_ms):
        log.info(
            "another retention is taken; what has expired stays so", part=part, before_ms=retention_ms,
            now_ms=settings.retention_ms,
        )  # fmt: skip
