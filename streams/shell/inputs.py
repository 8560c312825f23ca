"""Inputs that change under a worker: made anew, cut, deleted from before they were read, given more partitions.

A state remembers of each input the topic's id and its epoch, and the id of the changelog it lies in. A topic that was
made anew has another id, so its records are not mistaken for those that the stored offset speaks of. Where the
changelog itself is another, everything was restored together (``truyvet restore``), and the offsets are true.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from confluent_kafka.admin import AdminClient

from infra.topics import BrokerAwayError, Described, admin_client, describe
from streams.core import cases, erasure, person, venue
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.returned import RETURNS
from streams.core.room import PERSON_ROOM, VENUE_ROOM
from streams.shell.changelogs import CHANGELOGS
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS, INPUT_CHANGES, UNREAD_RECORDS

TOPICS: Final = {
    PERSON_ROOM: (person.SCANS, person.VENUES, cases.CASES, erasure.ERASURES, RETURNS),
    VENUE_ROOM: (venue.VENUE_MARKS, VISITS, CASE_VISITS),
}
"""The input topics of each room."""
OWN_EVENTS: Final = frozenset(TOPICS[VENUE_ROOM])
"""Inputs whose events the pipeline makes itself: one at which a stage fails is its own doing, and never passed over."""
OWN_TOPICS: Final = OWN_EVENTS | {RETURNS}
"""Inputs that the pipeline alone writes: made anew or cut, what follows from them cannot be right any more."""

MADE_ANEW: Final = "made_anew"
CUT: Final = "cut"
DELETED: Final = "deleted"

_MEANINGS: Final = {
    MADE_ANEW: "an input topic was made anew: it is read from its beginning as of a new epoch; what the former one held"
    " and was not read is missing, and so is what was sent while there was none",
    CUT: "an input ends before what was read of it: it is read from that end as of a new epoch; what was written there"
    " again in between may be missing",
    DELETED: "records were deleted before they were read: they are missing",
}

log = logs.get("inputs")


class Known(NamedTuple):
    """What a state remembers of an input partition."""

    topic_id: str
    epoch: int


class Place(NamedTuple):
    """Where an input partition is to be read from, and as which; ``change`` is what happened to it, if anything did."""

    offset: int
    known: Known
    change: str


def place_of(stored: int | None, known: Known | None, topic_id: str, first: int, end: int | None) -> Place:
    """Where to read from.

    Args:
        stored: Up to where a state has read; None if it has read nothing yet.
        known: As what; None in a state of before this was remembered.
        topic_id: The topic's id now.
        first: Where the partition begins.
        end: Where it ends; None if the broker does not say.
    """
    epoch = 0 if known is None else known.epoch
    if known is not None and known.topic_id != topic_id:
        return Place(first, Known(topic_id, epoch + 1), MADE_ANEW)
    if stored is None:
        return Place(first, Known(topic_id, epoch), "")
    if end is not None and end < stored:
        return Place(end, Known(topic_id, epoch + 1), CUT)
    return Place(max(stored, first), Known(topic_id, epoch), DELETED if stored < first else "")


def only_a_marker(stored: int | None, place: Place) -> bool:
    """Whether what went unread of a topic that is written in transactions was no record, but what ended the last one.

    Records are deleted together with the marker that ends their transaction, and those are two offsets at least.
    """
    return place.change == DELETED and stored is not None and place.offset - stored == 1


def tell(part: str, topic: str, stored: int | None, place: Place) -> None:
    """Says what happened to an input, for the log and the metrics."""
    INPUT_CHANGES.labels(topic, place.change).inc()
    if place.change == DELETED:
        UNREAD_RECORDS.labels(topic).inc(place.offset - (stored or 0))
    log.error(_MEANINGS[place.change], topic=topic, part=part, first=stored, next=place.offset, epoch=place.known.epoch)


def stop_sentence(full_topic: str, partition: int, stored: int | None, place: Place) -> str:
    """Why a stage cannot go on whose internal input has changed."""
    what = {MADE_ANEW: "was made anew", CUT: "ends before what was read of it", DELETED: "lost records unread"}
    return (
        f"{full_topic}-{partition} {what[place.change]} (read up to {stored or 0}, now from {place.offset}): it is the"
        " pipeline's own, so what follows from it cannot be completed; restore a backup, or replay into a new"
        " topic_prefix and database"
    )


def with_more_partitions(settings: Settings, described: Mapping[str, Described]) -> list[str]:
    """A sentence for each topic from outside that has more partitions than are read."""
    sentences = []
    for topic in (name for name in TOPICS[PERSON_ROOM] if name in described and name not in OWN_TOPICS):
        count = described[topic].partitions
        if count > settings.partitions:
            sentences.append(
                f"{settings.topic(topic)} has {count} partitions, not {settings.partitions}: nobody reads those from"
                f" {settings.partitions} on; `truyvet topics resend` sends again what lies there, and the topic has to"
                f" be made anew with {settings.partitions}"
            )
    return sentences


class Asking:
    """Asks the broker what the inputs and the changelogs are. Any thread may call, one at a time."""

    def __init__(self, settings: Settings, topics: Collection[str] | None = None) -> None:
        """``topics`` are names without prefix; by default all inputs and changelogs."""
        self._settings = settings
        inputs = [topic for of_room in TOPICS.values() for topic in of_room]
        self._topics: Sequence[str] = sorted(topics or (*inputs, *CHANGELOGS))
        self._admin: AdminClient | None = None

    def ask(self) -> dict[str, Described] | None:
        """Ids and partition counts by topic, without those that are not there; None if the broker does not answer."""
        try:
            self._admin = self._admin or admin_client(self._settings)
            return describe(self._settings, self._topics, self._admin)
        except BrokerAwayError as error:
            BROKER_ERRORS.inc()
            log.info("the broker does not say what the inputs are", error=str(error))
            return None
