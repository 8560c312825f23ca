"""The closed list of reject codes: why an event stands in ``rejects``, in the order of the checks.

The first four are judged on the value and key alone; the others need the record's timestamp, the
partition, the person's state or the register. Nothing may be rejected for a reason outside this list.
"""

from types import MappingProxyType
from typing import Final

OVERSIZED: Final = "oversized"
MALFORMED_JSON: Final = "malformed_json"
SCHEMA_VIOLATION: Final = "schema_violation"
KEY_MISMATCH: Final = "key_mismatch"
MISROUTED: Final = "misrouted"
IN_FUTURE: Final = "in_future"
TOO_OLD: Final = "too_old"
ERASED: Final = "erased"
UNKNOWN_RULESET: Final = "unknown_ruleset"
CONFLICTING_DUPLICATE: Final = "conflicting_duplicate"
UNKNOWN_VENUE: Final = "unknown_venue"
TOO_MANY_WAITING: Final = "too_many_waiting"
CORRUPT_BATCH: Final = "corrupt_batch"
FAILED: Final = "failed"
FOREIGN_RECORD: Final = "foreign_record"

REASONS: Final = MappingProxyType(
    {
        OVERSIZED: "the value is larger than 64 KiB",
        MALFORMED_JSON: "the value is no JSON: broken syntax or UTF-8, NaN, a lone surrogate, nesting deeper than 64",
        SCHEMA_VIOLATION: "the value is JSON, but no such event",
        KEY_MISMATCH: "the record's key is not the person_id (of a venue: the venue_id) of its value",
        MISROUTED: "the record was on a partition that is not its key's, and sending it on twice did not help",
        IN_FUTURE: "the event's time is more than 5 minutes after the record's timestamp",
        TOO_OLD: "the event's time is further before the record's timestamp than events are kept",
        ERASED: "the event is from before its person's erasure",
        UNKNOWN_RULESET: "the case names a ruleset that is not known",
        CONFLICTING_DUPLICATE: "another scan with this identity but other content was processed before",
        UNKNOWN_VENUE: "no venue has this id or code yet; the scan waits for its registration",
        TOO_MANY_WAITING: "so many scans of this person wait for the same code already that no further one can",
        CORRUPT_BATCH: "the record batch contradicts itself, so nothing in it can be trusted",
        FAILED: "the pipeline itself fails at this record: a bug; it can be sent again once that is mended",
        FOREIGN_RECORD: "the record stands on a topic of the pipeline's own, but is none of its events",
    }
)
"""Every reject code with its meaning in one sentence."""
