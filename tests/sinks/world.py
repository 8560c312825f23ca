"""A small world in a database: scans and cases as they come, and the rows that the naive checker makes of them."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from sinks.backends import Backend
from streams.core.times import parse_ms
from tests.oracle import wire
from tests.oracle.contacts import RULESETS, Rule, all_exposures
from tests.oracle.visits import all_visits, visit_row
from tests.sinks import data
from tests.sinks.test_backends import store

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
_TIMES = ("onset_at", "sampled_at", "infectious_from", "infectious_to", "isolated_at")


class World:
    """What was scanned and reported so far; ``settle`` stores what follows from it, with retractions."""

    def __init__(self, backend: Backend, rulesets: Mapping[str, Rule] = RULESETS) -> None:
        self.backend = backend
        self._rulesets = rulesets
        self._revision = 0
        self._scans: dict[tuple[str, str], dict[str, Any]] = {}
        self._venues: dict[str, dict[str, Any]] = {}
        self._cases: dict[tuple[str, str], dict[str, Any]] = {}
        self._visits: dict[str, dict[str, Any]] = {}
        self.exposures: dict[str, dict[str, Any]] = {}
        """The active ones by id, as they were stored last."""
        self.taken_back: dict[str, dict[str, Any]] = {}
        """Those that were retracted and did not return, as they last were."""
        backend.ensure_schema()

    def venue(self, venue_id: str, category: str = "cafe", **changes: object) -> None:
        """Registers a venue."""
        self._venues[venue_id] = data.venue(venue_id, category=category) | changes
        store(self.backend, "venues", [self._venues[venue_id]])

    def scan(self, person: str, scan_id: str, time: str, venue_id: str = "CAFE", **changes: object) -> None:
        """A scan at ``HH:MM`` local time of 14 October, or at a time as the wire has it."""
        moment = f"2021-10-14T{int(time[:2]) - 7:02d}{time[2:]}:00.000Z" if len(time) == len("HH:MM") else time
        names = ("category", "province_code", "district_code", "ward_code", "lat", "lon")
        place = {name: self._venues[venue_id][name] for name in names}
        whole = {"person_id": person, "scan_id": scan_id, "occurred_at": moment, "venue_id": venue_id, **place}
        self._scans[person, scan_id] = data.scan(1) | whole | changes

    def case(self, case_id: str, person: str, **changes: object) -> None:
        """A report that counts from now on."""
        self._cases[case_id, person] = data.case_state(case_id, person_id=person) | changes

    def forget(self, person: str) -> None:
        """Erases a person: scans, cases and all that follows from them."""
        scans = [self._scans.pop(key) for key in list(self._scans) if key[0] == person]
        cases = [self._cases.pop(key) for key in list(self._cases) if key[1] == person]
        erased = {"person_id": person, "status": "erased"}
        left = [{name: scan[name] for name in ("scan_id", "occurred_at")} for scan in scans]
        self._store("enriched", [scan | erased for scan in left])
        self._store("case-states", [{"case_id": case["case_id"]} | erased for case in cases])

    def settle(self) -> None:
        """Stores everything as it is now, and takes back what no longer follows."""
        self._revision += 1
        self._store("enriched", [*self._scans.values()])
        self._store("case-states", [*self._cases.values()])
        dwells = {key: self._dwell(scan["venue_id"]) for key, scan in self._scans.items()}
        visits = all_visits([*self._scans.values()], dwells)
        were, self._visits = self._visits, {visit.visit_id: visit_row(visit) for visit in visits}
        self._store("visits", [*self._visits.values()])
        self._retract("visits", [row for key, row in were.items() if key not in self._visits])
        cases = [
            case | {name: None if case[name] is None else parse_ms(case[name]) for name in _TIMES}
            for case in self._cases.values()
        ]
        rows = all_exposures(visits, cases, self._rulesets, ZONE)
        before, extras = self.exposures, {"reason": "case", "detected_at": "2021-10-14T11:00:00.000Z"}
        self.exposures = {row["exposure_id"]: row | extras for row in rows}
        self.taken_back |= before
        self.taken_back = {key: row for key, row in self.taken_back.items() if key not in self.exposures}
        self._store("exposures", [*self.exposures.values()])
        self._retract("exposures", [*self.taken_back.values()])

    def retract(self, exposure_id: str) -> None:
        """Takes an exposure back for no reason."""
        self._revision += 1
        self._retract("exposures", [self.exposures[exposure_id]])

    def only(self, person: str) -> str:
        """The id of a person's only exposure, active or taken back."""
        (found,) = [key for key, row in (self.exposures | self.taken_back).items() if row["person_id"] == person]
        return found

    def _dwell(self, venue_id: str) -> int:
        venue = self._venues[venue_id]
        own: int | None = venue["dwell_minutes"]
        return wire.CATEGORIES[venue["category"]][0] if own is None else own

    def _retract(self, topic: str, rows: list[dict[str, Any]]) -> None:
        self._store(topic, [data.bare(topic, row | {"revision": self._revision}) for row in rows])

    def _store(self, topic: str, events: list[dict[str, Any]]) -> None:
        if events:
            store(self.backend, topic, [event | {"revision": self._revision} for event in events])
