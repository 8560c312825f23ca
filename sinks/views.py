"""The views of SPEC, section 9: they apply FINAL and status, sum cells over ``part``, and show times as text.

``v_*`` are the operators'; of them tracers see ``v_visits`` too, and alerting services ``v_exposures`` alone. ``a_*``
are the analysts' (SPEC, section 8): no cell of 1 to k-1 persons, minutes only where ward and day have k persons, and
nothing of a venue or a person.

Written for every backend from ClickHouse 18.16 on: joins say ANY or ALL and put subqueries on both sides, and
nothing needs a window function. ``{db}`` is the database.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

K_PERSONS = 5
"""Smallest number of persons that an analyst may see in a cell."""
SILENCE_DAYS = 7
"""Days before a day in which a venue must have been active to have fallen silent on it."""
LIVE_MINUTES = 15


def date_of(column: str) -> str:
    """SQL: the date of a column that holds the number yyyymmdd."""
    text = f"toString({column})"
    return f"toDate(concat(substring({text}, 1, 4), '-', substring({text}, 5, 2), '-', substring({text}, 7, 2)))"


def time_of(column: str) -> str:
    """SQL: RFC 3339 in UTC with milliseconds, of a column that holds epoch milliseconds (null stays null)."""
    seconds = f"formatDateTime(toDateTime(intDiv({column}, 1000), 'UTC'), '%FT%T')"
    # 18.16 cannot pad: a thousand is added and its digit cut off.
    return f"concat({seconds}, '.', substring(toString(1000 + {column} % 1000), 2), 'Z')"


_AREA = "province_code, district_code, ward_code"

_V_SCANS = f"""
SELECT {date_of("day_number")} AS day, {time_of("occurred_ms")} AS occurred_at, occurred_ms,
    person_id, scan_id, venue_id, venue_code, direction, source, category, {_AREA}, lat, lon
FROM (
    SELECT day AS day_number, occurred_at AS occurred_ms,
        person_id, scan_id, venue_id, venue_code, direction, source, category, {_AREA}, lat, lon
    FROM {{db}}.scans FINAL WHERE status = 'active'
)"""

_VISIT = "visit_id, person_id, venue_id"
_VISIT_REST = f"start_kind, end_kind, first_scan_id, scan_count, category, {_AREA}"

_V_VISITS = f"""
SELECT {date_of("day_number")} AS day, {_VISIT}, {time_of("started_ms")} AS started_at, started_ms,
    {time_of("ended_ms")} AS ended_at, ended_ms, {time_of("first_scan_ms")} AS first_scan_at, first_scan_ms,
    {_VISIT_REST}
FROM (
    SELECT day AS day_number, {_VISIT}, started_at AS started_ms, ended_at AS ended_ms,
        first_scan_at AS first_scan_ms, {_VISIT_REST}
    FROM {{db}}.visits FINAL WHERE status = 'active'
)"""

_EXPOSURE = f"exposure_id, case_id, person_id, venue_id, category, {_AREA}"
_EXPOSURE_REST = "overlap_minutes, score, level, ruleset, ruleset_version, reason"

_V_EXPOSURES = f"""
SELECT {date_of("day_number")} AS day, {_EXPOSURE}, {time_of("overlap_from_ms")} AS overlap_from, overlap_from_ms,
    {time_of("overlap_to_ms")} AS overlap_to, overlap_to_ms, {_EXPOSURE_REST},
    {time_of("contact_scan_ms")} AS contact_scan_at, contact_scan_ms,
    {time_of("detected_ms")} AS detected_at, detected_ms
FROM (
    SELECT day AS day_number, {_EXPOSURE}, overlap_from AS overlap_from_ms, overlap_to AS overlap_to_ms,
        {_EXPOSURE_REST}, contact_scan_at AS contact_scan_ms, detected_at AS detected_ms
    FROM {{db}}.exposures FINAL WHERE status = 'active'
)"""

_V_VENUES = f"""
SELECT venue_id, name, category, {_AREA}, lat, lon, capacity, {date_of("day_number")} AS registered_day,
    {time_of("registered_ms")} AS registered_at, registered_ms, status, dwell_minutes, codes
FROM (
    SELECT venue_id, name, category, {_AREA}, lat, lon, capacity, registered_day AS day_number,
        registered_at AS registered_ms, status, dwell_minutes, codes
    FROM {{db}}.venues FINAL
)"""

# Its first claimant counts for a code, unless it is a registered venue's own id; a removed venue claims nothing.
_V_CONTESTED_CODES = """
SELECT code, count() AS claimants,
    tupleElement(arrayElement(arraySort(groupArray((registered_at, venue_id))), 1), 2) AS first_claimant
FROM (
    SELECT DISTINCT venue_id, registered_at, arrayJoin(codes) AS code FROM {db}.venues FINAL WHERE status != 'removed'
)
GROUP BY code HAVING count() > 1"""

_PASSAGES = "sum(scans) AS scans, sum(ins) AS ins, sum(outs) AS outs, sum(passes) AS passes"
_PASSAGE_NAMES = "scans, ins, outs, passes"

_V_WARD_MINUTE = f"""
SELECT {date_of("day_number")} AS day, {time_of("minute_ms")} AS minute, minute_ms, ward_code, {_PASSAGE_NAMES}
FROM (
    SELECT day AS day_number, minute AS minute_ms, ward_code, {_PASSAGES}
    FROM {{db}}.ward_minute FINAL GROUP BY day, minute, ward_code
)"""

_V_VENUE_HOUR = f"""
SELECT {date_of("day_number")} AS day, {time_of("hour_ms")} AS hour, hour_ms, venue_id, {_PASSAGE_NAMES}
FROM (
    SELECT day AS day_number, hour AS hour_ms, venue_id, {_PASSAGES}
    FROM {{db}}.venue_hour FINAL GROUP BY day, hour, venue_id
)"""

_V_AREA_DAY = f"""
SELECT {date_of("day_number")} AS day, level, code, scans, persons, active_venues
FROM (
    SELECT day AS day_number, level, code,
        sum(scans) AS scans, sum(persons) AS persons, sum(active_venues) AS active_venues
    FROM {{db}}.area_day FINAL GROUP BY day, level, code
)"""

# Venues registered in each area, as two arrays: days with registrations, and how many each had. A total up to
# a day is then a sum over few elements, where a join of days with days would multiply the rows.
_REGISTRATIONS = f"""
SELECT level, code, groupArray(registered) AS days, groupArray(venues) AS counts
FROM (
    SELECT tupleElement(area, 1) AS level, tupleElement(area, 2) AS code,
        {date_of("registered_day")} AS registered, count() AS venues
    FROM (
        SELECT registered_day, arrayJoin([('ward', toString(ward_code)), ('district', toString(district_code)),
            ('province', toString(province_code)), ('nation', 'VN')]) AS area
        FROM {{db}}.venues FINAL
    )
    GROUP BY level, code, registered_day
)
GROUP BY level, code"""

_V_REPORT_DAILY = f"""
SELECT day, level, code, arraySum((d, n) -> if(d <= day, n, 0), days, counts) AS venues_total,
    arraySum((d, n) -> if(d = day, n, 0), days, counts) AS venues_new,
    active_venues AS venues_active, scans, persons
FROM (SELECT day, level, code, scans, persons, active_venues FROM {{db}}.v_area_day) AS cells
ANY LEFT JOIN ({_REGISTRATIONS}) AS registered USING (level, code)"""

# Each day counts for itself and the six after it; days before the first and after the last stored show nothing.
_V_ROLLING_7D = """
SELECT day, level, code, intDiv(2 * sum(scans) + 7, 14) AS scans_mean, intDiv(2 * sum(persons) + 7, 14) AS persons_mean,
    intDiv(2 * sum(active_venues) + 7, 14) AS active_venues_mean
FROM (
    SELECT arrayJoin([0, 1, 2, 3, 4, 5, 6]) + d AS day, level, code, scans, persons, active_venues
    FROM (SELECT day AS d, level, code, scans, persons, active_venues FROM {db}.v_area_day)
)
WHERE day IN (SELECT DISTINCT day FROM {db}.v_area_day)
GROUP BY day, level, code"""

_V_SILENT_AREAS = """
SELECT day, code, name, district_code, province_code
FROM (SELECT DISTINCT day FROM {db}.v_area_day) AS days
CROSS JOIN (SELECT code, name, district_code, province_code FROM {db}.areas FINAL WHERE level = 'ward') AS wards
WHERE (day, code) NOT IN (SELECT day, code FROM {db}.v_area_day WHERE level = 'ward' AND scans > 0)"""

_SILENCE_OFFSETS = ", ".join(map(str, range(1, SILENCE_DAYS + 1)))

_V_SILENT_VENUES = f"""
SELECT day, venue_id, name, category, {_AREA}, status
FROM (
    SELECT DISTINCT venue_id, arrayJoin([{_SILENCE_OFFSETS}]) + active_day AS day
    FROM (
        SELECT DISTINCT venue_id, {date_of("day")} AS active_day FROM {{db}}.venue_hour FINAL WHERE scans > 0
    )
) AS silent
ANY LEFT JOIN (
    SELECT venue_id, name, category, {_AREA}, status FROM {{db}}.venues FINAL
) AS register USING (venue_id)
WHERE day IN (SELECT DISTINCT day FROM {{db}}.v_area_day)
    AND (venue_id, day) NOT IN (SELECT venue_id, {date_of("day")} FROM {{db}}.venue_hour FINAL WHERE scans > 0)"""

_V_LIVE_15M = f"""
SELECT day, minute, minute_ms, ward_code, {_PASSAGE_NAMES} FROM {{db}}.v_ward_minute
WHERE minute_ms > (SELECT max(minute) FROM {{db}}.ward_minute) - {LIVE_MINUTES} * 60000"""

# A cell without persons is visible as the zero it is; in an area_day all three figures are then zero.
_VISIBLE = f"persons >= {K_PERSONS} OR (persons = 0 AND scans = 0)"

_A_AREA_DAY = f"""
SELECT day, level, code, scans, persons, active_venues FROM {{db}}.v_area_day
WHERE {_VISIBLE}"""

_A_WARD_MINUTE = f"""
SELECT day, minute, minute_ms, ward_code, {_PASSAGE_NAMES} FROM {{db}}.v_ward_minute
WHERE (day, ward_code) IN (
    SELECT day, code FROM {{db}}.v_area_day WHERE level = 'ward' AND persons >= {K_PERSONS}
)"""

_A_REPORT_DAILY = f"""
SELECT day, level, code, venues_total, venues_new, venues_active, scans, persons FROM {{db}}.v_report_daily
WHERE {_VISIBLE}"""

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "v_scans": _V_SCANS,
        "v_visits": _V_VISITS,
        "v_exposures": _V_EXPOSURES,
        "v_venues": _V_VENUES,
        "v_contested_codes": _V_CONTESTED_CODES,
        "v_ward_minute": _V_WARD_MINUTE,
        "v_venue_hour": _V_VENUE_HOUR,
        "v_area_day": _V_AREA_DAY,
        "v_report_daily": _V_REPORT_DAILY,
        "v_rolling_7d": _V_ROLLING_7D,
        "v_silent_areas": _V_SILENT_AREAS,
        "v_silent_venues": _V_SILENT_VENUES,
        "v_live_15m": _V_LIVE_15M,
        "a_area_day": _A_AREA_DAY,
        "a_ward_minute": _A_WARD_MINUTE,
        "a_report_daily": _A_REPORT_DAILY,
    }
)
"""Name to SELECT, in an order in which each reads only tables and views before it."""
