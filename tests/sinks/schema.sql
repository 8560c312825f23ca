CREATE DATABASE IF NOT EXISTS `checkin`;
CREATE TABLE IF NOT EXISTS `checkin`.`scans` (`person_id` String, `scan_id` String, `venue_id` String, `venue_code` String, `occurred_at` Int64, `direction` LowCardinality(String), `source` LowCardinality(String), `category` LowCardinality(String), `province_code` LowCardinality(String), `district_code` LowCardinality(String), `ward_code` LowCardinality(String), `lat` Float64, `lon` Float64, `status` LowCardinality(String), `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`person_id`, `scan_id`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`visits` (`visit_id` String, `person_id` String, `venue_id` String, `started_at` Int64, `ended_at` Int64, `start_kind` LowCardinality(String), `end_kind` LowCardinality(String), `first_scan_id` String, `first_scan_at` Int64, `scan_count` UInt64, `category` LowCardinality(String), `province_code` LowCardinality(String), `district_code` LowCardinality(String), `ward_code` LowCardinality(String), `status` LowCardinality(String), `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`visit_id`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`venues` (`venue_id` String, `name` String, `category` LowCardinality(String), `province_code` LowCardinality(String), `district_code` LowCardinality(String), `ward_code` LowCardinality(String), `lat` Float64, `lon` Float64, `capacity` Nullable(UInt64), `registered_at` Int64, `status` LowCardinality(String), `dwell_minutes` Nullable(UInt64), `codes` Array(String), `revision` UInt64, `registered_day` UInt32) ENGINE = ReplacingMergeTree(revision) ORDER BY (`venue_id`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`cases` (`case_id` String, `person_id` String, `onset_at` Nullable(Int64), `sampled_at` Nullable(Int64), `infectious_from` Nullable(Int64), `infectious_to` Nullable(Int64), `isolated_at` Nullable(Int64), `reported_at` Nullable(Int64), `ruleset` Nullable(String), `status` LowCardinality(String), `revision` UInt64) ENGINE = ReplacingMergeTree(revision) ORDER BY (`case_id`, `person_id`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`exposures` (`exposure_id` String, `case_id` String, `person_id` String, `venue_id` String, `category` LowCardinality(String), `province_code` LowCardinality(String), `district_code` LowCardinality(String), `ward_code` LowCardinality(String), `overlap_from` Int64, `overlap_to` Int64, `overlap_minutes` UInt64, `score` Float64, `level` LowCardinality(String), `ruleset` LowCardinality(String), `ruleset_version` UInt64, `contact_scan_at` Int64, `reason` LowCardinality(String), `detected_at` Int64, `status` LowCardinality(String), `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`exposure_id`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`rejects` (`topic` String, `epoch` Int64, `partition` Int64, `offset` Int64, `record_at` Int64, `key` Nullable(String), `reason` LowCardinality(String), `detail` String, `payload` Nullable(String), `attempts` UInt64, `status` LowCardinality(String), `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`topic`, `epoch`, `partition`, `offset`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`ward_minute` (`minute` Int64, `ward_code` String, `part` String, `scans` UInt64, `ins` UInt64, `outs` UInt64, `passes` UInt64, `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`minute`, `ward_code`, `part`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`venue_hour` (`hour` Int64, `venue_id` String, `part` String, `scans` UInt64, `ins` UInt64, `outs` UInt64, `passes` UInt64, `revision` UInt64, `day` UInt32) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`hour`, `venue_id`, `part`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.`area_day` (`day` UInt32, `level` String, `code` String, `part` String, `scans` UInt64, `persons` UInt64, `active_venues` UInt64, `revision` UInt64) ENGINE = ReplacingMergeTree(revision) PARTITION BY `day` ORDER BY (`day`, `level`, `code`, `part`) SETTINGS old_parts_lifetime = 40;
CREATE TABLE IF NOT EXISTS `checkin`.areas (level String, code String, name String, district_code String, province_code String, revision UInt64) ENGINE = ReplacingMergeTree(revision) ORDER BY code;
CREATE TABLE IF NOT EXISTS `checkin`.identity (id String, revision UInt64) ENGINE = ReplacingMergeTree(revision) ORDER BY id;
CREATE TABLE IF NOT EXISTS `checkin`.registers (topic_id String, generation UInt64) ENGINE = ReplacingMergeTree(generation) ORDER BY topic_id;
CREATE TABLE IF NOT EXISTS `checkin`.forgetting (run String, person_id String) ENGINE = Memory;
DROP TABLE IF EXISTS `checkin`.a_report_daily;
DROP TABLE IF EXISTS `checkin`.a_ward_minute;
DROP TABLE IF EXISTS `checkin`.a_area_day;
DROP TABLE IF EXISTS `checkin`.v_live_15m;
DROP TABLE IF EXISTS `checkin`.v_silent_venues;
DROP TABLE IF EXISTS `checkin`.v_silent_areas;
DROP TABLE IF EXISTS `checkin`.v_rolling_7d;
DROP TABLE IF EXISTS `checkin`.v_report_daily;
DROP TABLE IF EXISTS `checkin`.v_area_day;
DROP TABLE IF EXISTS `checkin`.v_venue_hour;
DROP TABLE IF EXISTS `checkin`.v_ward_minute;
DROP TABLE IF EXISTS `checkin`.v_contested_codes;
DROP TABLE IF EXISTS `checkin`.v_venues;
DROP TABLE IF EXISTS `checkin`.v_exposures;
DROP TABLE IF EXISTS `checkin`.v_visits;
DROP TABLE IF EXISTS `checkin`.v_scans;
CREATE VIEW IF NOT EXISTS `checkin`.v_scans AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, concat(formatDateTime(toDateTime(intDiv(occurred_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + occurred_ms % 1000), 2), 'Z') AS occurred_at, occurred_ms,
    person_id, scan_id, venue_id, venue_code, direction, source, category, province_code, district_code, ward_code, lat, lon
FROM (
    SELECT day AS day_number, occurred_at AS occurred_ms,
        person_id, scan_id, venue_id, venue_code, direction, source, category, province_code, district_code, ward_code, lat, lon
    FROM `checkin`.scans FINAL WHERE status = 'active'
);
CREATE VIEW IF NOT EXISTS `checkin`.v_visits AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, visit_id, person_id, venue_id, concat(formatDateTime(toDateTime(intDiv(started_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + started_ms % 1000), 2), 'Z') AS started_at, started_ms,
    concat(formatDateTime(toDateTime(intDiv(ended_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + ended_ms % 1000), 2), 'Z') AS ended_at, ended_ms, concat(formatDateTime(toDateTime(intDiv(first_scan_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + first_scan_ms % 1000), 2), 'Z') AS first_scan_at, first_scan_ms,
    start_kind, end_kind, first_scan_id, scan_count, category, province_code, district_code, ward_code
FROM (
    SELECT day AS day_number, visit_id, person_id, venue_id, started_at AS started_ms, ended_at AS ended_ms,
        first_scan_at AS first_scan_ms, start_kind, end_kind, first_scan_id, scan_count, category, province_code, district_code, ward_code
    FROM `checkin`.visits FINAL WHERE status = 'active'
);
CREATE VIEW IF NOT EXISTS `checkin`.v_exposures AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, exposure_id, case_id, person_id, venue_id, category, province_code, district_code, ward_code, concat(formatDateTime(toDateTime(intDiv(overlap_from_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + overlap_from_ms % 1000), 2), 'Z') AS overlap_from, overlap_from_ms,
    concat(formatDateTime(toDateTime(intDiv(overlap_to_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + overlap_to_ms % 1000), 2), 'Z') AS overlap_to, overlap_to_ms, overlap_minutes, score, level, ruleset, ruleset_version, reason,
    concat(formatDateTime(toDateTime(intDiv(contact_scan_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + contact_scan_ms % 1000), 2), 'Z') AS contact_scan_at, contact_scan_ms,
    concat(formatDateTime(toDateTime(intDiv(detected_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + detected_ms % 1000), 2), 'Z') AS detected_at, detected_ms
FROM (
    SELECT day AS day_number, exposure_id, case_id, person_id, venue_id, category, province_code, district_code, ward_code, overlap_from AS overlap_from_ms, overlap_to AS overlap_to_ms,
        overlap_minutes, score, level, ruleset, ruleset_version, reason, contact_scan_at AS contact_scan_ms, detected_at AS detected_ms
    FROM `checkin`.exposures FINAL WHERE status = 'active'
);
CREATE VIEW IF NOT EXISTS `checkin`.v_venues AS 
SELECT venue_id, name, category, province_code, district_code, ward_code, lat, lon, capacity, toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS registered_day,
    concat(formatDateTime(toDateTime(intDiv(registered_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + registered_ms % 1000), 2), 'Z') AS registered_at, registered_ms, status, dwell_minutes, codes
FROM (
    SELECT venue_id, name, category, province_code, district_code, ward_code, lat, lon, capacity, registered_day AS day_number,
        registered_at AS registered_ms, status, dwell_minutes, codes
    FROM `checkin`.venues FINAL
);
CREATE VIEW IF NOT EXISTS `checkin`.v_contested_codes AS 
SELECT code, count() AS claimants,
    tupleElement(arrayElement(arraySort(groupArray((registered_at, venue_id))), 1), 2) AS first_claimant
FROM (
    SELECT DISTINCT venue_id, registered_at, arrayJoin(codes) AS code FROM `checkin`.venues FINAL WHERE status != 'removed'
)
GROUP BY code HAVING count() > 1;
CREATE VIEW IF NOT EXISTS `checkin`.v_ward_minute AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, concat(formatDateTime(toDateTime(intDiv(minute_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + minute_ms % 1000), 2), 'Z') AS minute, minute_ms, ward_code, scans, ins, outs, passes
FROM (
    SELECT day AS day_number, minute AS minute_ms, ward_code, sum(scans) AS scans, sum(ins) AS ins, sum(outs) AS outs, sum(passes) AS passes
    FROM `checkin`.ward_minute FINAL GROUP BY day, minute, ward_code
);
CREATE VIEW IF NOT EXISTS `checkin`.v_venue_hour AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, concat(formatDateTime(toDateTime(intDiv(hour_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + hour_ms % 1000), 2), 'Z') AS hour, hour_ms, venue_id, scans, ins, outs, passes
FROM (
    SELECT day AS day_number, hour AS hour_ms, venue_id, sum(scans) AS scans, sum(ins) AS ins, sum(outs) AS outs, sum(passes) AS passes
    FROM `checkin`.venue_hour FINAL GROUP BY day, hour, venue_id
);
CREATE VIEW IF NOT EXISTS `checkin`.v_area_day AS 
SELECT toDate(concat(substring(toString(day_number), 1, 4), '-', substring(toString(day_number), 5, 2), '-', substring(toString(day_number), 7, 2))) AS day, level, code, scans, persons, active_venues
FROM (
    SELECT day AS day_number, level, code,
        sum(scans) AS scans, sum(persons) AS persons, sum(active_venues) AS active_venues
    FROM `checkin`.area_day FINAL GROUP BY day, level, code
);
CREATE VIEW IF NOT EXISTS `checkin`.v_report_daily AS 
SELECT day, level, code, arraySum((d, n) -> if(d <= day, n, 0), days, counts) AS venues_total,
    arraySum((d, n) -> if(d = day, n, 0), days, counts) AS venues_new,
    active_venues AS venues_active, scans, persons
FROM (SELECT day, level, code, scans, persons, active_venues FROM `checkin`.v_area_day) AS cells
ANY LEFT JOIN (
SELECT level, code, groupArray(registered) AS days, groupArray(venues) AS counts
FROM (
    SELECT tupleElement(area, 1) AS level, tupleElement(area, 2) AS code,
        toDate(concat(substring(toString(registered_day), 1, 4), '-', substring(toString(registered_day), 5, 2), '-', substring(toString(registered_day), 7, 2))) AS registered, count() AS venues
    FROM (
        SELECT registered_day, arrayJoin([('ward', toString(ward_code)), ('district', toString(district_code)),
            ('province', toString(province_code)), ('nation', 'VN')]) AS area
        FROM `checkin`.venues FINAL
    )
    GROUP BY level, code, registered_day
)
GROUP BY level, code) AS registered USING (level, code);
CREATE VIEW IF NOT EXISTS `checkin`.v_rolling_7d AS 
SELECT day, level, code, intDiv(2 * sum(scans) + 7, 14) AS scans_mean, intDiv(2 * sum(persons) + 7, 14) AS persons_mean,
    intDiv(2 * sum(active_venues) + 7, 14) AS active_venues_mean
FROM (
    SELECT arrayJoin([0, 1, 2, 3, 4, 5, 6]) + d AS day, level, code, scans, persons, active_venues
    FROM (SELECT day AS d, level, code, scans, persons, active_venues FROM `checkin`.v_area_day)
)
WHERE day IN (SELECT DISTINCT day FROM `checkin`.v_area_day)
GROUP BY day, level, code;
CREATE VIEW IF NOT EXISTS `checkin`.v_silent_areas AS 
SELECT day, code, name, district_code, province_code
FROM (SELECT DISTINCT day FROM `checkin`.v_area_day) AS days
CROSS JOIN (SELECT code, name, district_code, province_code FROM `checkin`.areas FINAL WHERE level = 'ward') AS wards
WHERE (day, code) NOT IN (SELECT day, code FROM `checkin`.v_area_day WHERE level = 'ward' AND scans > 0);
CREATE VIEW IF NOT EXISTS `checkin`.v_silent_venues AS 
SELECT day, venue_id, name, category, province_code, district_code, ward_code, status
FROM (
    SELECT DISTINCT venue_id, arrayJoin([1, 2, 3, 4, 5, 6, 7]) + active_day AS day
    FROM (
        SELECT DISTINCT venue_id, toDate(concat(substring(toString(day), 1, 4), '-', substring(toString(day), 5, 2), '-', substring(toString(day), 7, 2))) AS active_day FROM `checkin`.venue_hour FINAL WHERE scans > 0
    )
) AS silent
ANY LEFT JOIN (
    SELECT venue_id, name, category, province_code, district_code, ward_code, status FROM `checkin`.venues FINAL
) AS register USING (venue_id)
WHERE day IN (SELECT DISTINCT day FROM `checkin`.v_area_day)
    AND (venue_id, day) NOT IN (SELECT venue_id, toDate(concat(substring(toString(day), 1, 4), '-', substring(toString(day), 5, 2), '-', substring(toString(day), 7, 2))) FROM `checkin`.venue_hour FINAL WHERE scans > 0);
CREATE VIEW IF NOT EXISTS `checkin`.v_live_15m AS 
SELECT day, minute, minute_ms, ward_code, scans, ins, outs, passes FROM `checkin`.v_ward_minute
WHERE minute_ms > (SELECT max(minute) FROM `checkin`.ward_minute) - 15 * 60000;
CREATE VIEW IF NOT EXISTS `checkin`.a_area_day AS 
SELECT day, level, code, scans, persons, active_venues FROM `checkin`.v_area_day
WHERE persons >= 5 OR (persons = 0 AND scans = 0);
CREATE VIEW IF NOT EXISTS `checkin`.a_ward_minute AS 
SELECT day, minute, minute_ms, ward_code, scans, ins, outs, passes FROM `checkin`.v_ward_minute
WHERE (day, ward_code) IN (
    SELECT day, code FROM `checkin`.v_area_day WHERE level = 'ward' AND persons >= 5
);
CREATE VIEW IF NOT EXISTS `checkin`.a_report_daily AS 
SELECT day, level, code, venues_total, venues_new, venues_active, scans, persons FROM `checkin`.v_report_daily
WHERE persons >= 5 OR (persons = 0 AND scans = 0);
