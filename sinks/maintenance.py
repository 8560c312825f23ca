"""What changes the database beyond inserting, as actions of a closed list: retention, and forgetting a person.

Whoever owns the database performs them: of a server's the command itself, of the embedded one's the sink, which takes
them at ``POST /maintenance`` on the address where it answers queries.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec

from sinks.backends import Backend
from sinks.forgetting import Forgotten, forget
from sinks.retention import Purge, purge
from truyvet.config import Settings

PATH: Final = "/maintenance"


class RefusedError(Exception):
    """The action makes no sense here; one sentence."""


class PurgeAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="purge"):
    """Drops what is past its retention on a local day; today's, if none is named."""

    as_of: date | None = None
    dry_run: bool = False


class ForgetAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="forget"):
    """Removes a person's rows from at or before an instant (epoch ms)."""

    person_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    until_ms: int


Action = PurgeAction | ForgetAction
Outcome = Purge | Forgotten
OUTCOMES: Final[Mapping[type[Action], type[Outcome]]] = {PurgeAction: Purge, ForgetAction: Forgotten}

read_action = msgspec.json.Decoder(Action).decode


def perform(backend: Backend, settings: Settings, action: Action) -> Outcome:
    """Does it, and returns once it is done.

    Raises:
        RefusedError: nothing was done.
        StorageError: ClickHouse refused or is away; run again, it goes on.
    """
    if isinstance(action, ForgetAction):
        return forget(backend, settings.database, action.person_id, action.until_ms)
    if action.as_of is None and settings.restating:
        raise RefusedError("this database restates history: name the day with --as-of, for today's would wipe it")
    as_of = action.as_of or datetime.now(ZoneInfo(settings.report_timezone)).date()
    return purge(backend, settings, as_of, dry_run=action.dry_run)
