"""An explanation on a terminal, in English or Vietnamese; times are local."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.areas import load_areas
from schemas.ruleset import RulesetFile, WeightTable
from streams.core.times import LocalClock
from truyvet.explain_told import CaseStay, Cause, Contact, End, Explanation, Place, Stay
from truyvet.explain_words import CATEGORIES_VI, WORDS, Language
from truyvet.query import printable


def print_explanation(console: Console, explanation: Explanation, clock: LocalClock, language: Language) -> None:
    """Prints one explanation; nothing in it is taken for markup or commands the terminal."""
    _Printing(explanation, clock, language).to(console)


def print_more(console: Console, count: int, language: Language) -> None:
    """Says how many a list leaves out."""
    console.print(Text(WORDS[language]["more"].format(count=count), style="dim"))


def print_none(console: Console, language: Language) -> None:
    """Says that a person or a case has no exposure."""
    console.print(WORDS[language]["none"])


class _Printing:
    def __init__(self, explanation: Explanation, clock: LocalClock, language: Language) -> None:
        self._told = explanation
        self._clock = clock
        self._words = WORDS[language]
        self._categories = CATEGORIES_VI if language == "vi" else {}

    def to(self, console: Console) -> None:
        """Title, then a label and its lines for each thing that is known."""
        told = self._told
        console.print(Text(self._say(told.status, exposure_id=told.exposure_id), style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for label, lines in self._parts():
            for place, line in enumerate(lines):
                table.add_row("" if place else self._say(label), Text(printable(line)))
        console.print(table)

    def _parts(self) -> Iterator[tuple[str, list[str]]]:
        told = self._told
        yield "why", [self._cause(cause) for cause in told.causes]
        key = "exposed" if told.case_id else "exposed_unknown"
        yield "who", [self._say(key, person_id=told.person_id, case_id=told.case_id)]
        if told.venue:
            yield "where", [self._venue(told.venue), *self._areas(told.venue)]
        if told.contact:
            yield "when", list(self._together(told.contact, told.case_stay))
            yield "level", list(self._level(told.contact))
        yield "rule", list(self._rule_lines())
        if told.stay:
            yield "stay", list(self._stay(told.stay, told.venue))
        elif told.contact:
            yield "stay", [self._say("stay_missing")]
        if told.case_stay:
            yield "case_stay", list(self._case_stay(told.case_stay))
        elif told.contact:
            yield "case_stay", [self._say("case_stay_missing")]
        if told.contact:
            key = {"case": "found_case", "visit": "found_visit"}.get(told.contact.reason, "found_other")
            yield "found", [self._say(key, time=self._moment(told.contact.detected_at_ms))]

    def _cause(self, cause: Cause) -> str:
        key, span = str(cause.code), ""
        if cause.from_ms is not None and cause.to_ms is not None:
            span = self._span(cause.from_ms, cause.to_ms)
            if key in ("contact_gone", "case_visit_gone"):
                key += "_into"
        at = "?" if cause.at_ms is None else self._moment(cause.at_ms)
        gaps = {"minutes": cause.minutes, "least_minutes": cause.least_minutes, "scan_id": cause.scan_id}
        return self._say(key, at=at, span=span, ruleset=cause.ruleset, **gaps)

    def _venue(self, venue: Place) -> str:
        if venue.name is None:
            return self._say("venue_unnamed", venue_id=venue.venue_id)
        return self._say("venue", name=venue.name, venue_id=venue.venue_id, category=self._category(venue))

    def _category(self, venue: Place | None) -> str:
        category = venue.category if venue else ""
        return self._categories.get(category, category)

    def _areas(self, venue: Place) -> list[str]:
        names = load_areas().names
        codes = [code for code in (venue.ward_code, venue.district_code, venue.province_code) if code]
        return [", ".join(f"{names.get(code, '?')} ({code})" for code in codes)] if codes else []

    def _together(self, contact: Contact, case_stay: CaseStay | None) -> Iterator[str]:
        yield self._say("together", span=self._span(contact.from_ms, contact.to_ms), minutes=contact.minutes)
        if case_stay and case_stay.counts_to_ms is not None and case_stay.tail_to_ms is not None:
            left_ms = case_stay.counts_to_ms
            if left_ms < contact.to_ms:
                moments = {"left": self._moment(left_ms), "until": self._moment(case_stay.tail_to_ms)}
                yield self._say("in_tail", **moments)

    def _level(self, contact: Contact) -> Iterator[str]:
        score = f"{contact.score:g}"
        if contact.weight is None:
            yield self._say("score_short", level=contact.level, score=score)
        else:
            gaps = {"minutes": contact.minutes, "weight": f"{contact.weight:g}"}
            yield self._say("score", level=contact.level, score=score, **gaps)
        if contact.weight_day is not None:
            yield self._say("weight_day", day=f"{contact.weight_day:+d}")

    def _rule_lines(self) -> Iterator[str]:
        told, rule = self._told, self._told.rule
        if told.ruleset is None:
            return
        if told.ruleset_version is not None:
            yield self._say("rule_version", name=told.ruleset, version=told.ruleset_version)
        elif rule:
            yield self._say("rule_name", name=told.ruleset, version=rule.version)
        if rule is None:
            yield self._say("rule_missing")
            return
        if told.ruleset_version not in (None, rule.version):
            yield self._say("rule_other", version=rule.version)
        yield self._say("rule_title", title=rule.title, source=rule.source)
        yield from self._rule_text(rule)

    def _rule_text(self, rule: RulesetFile) -> Iterator[str]:
        days = {"before": rule.days_before, "asymptomatic": rule.days_before_asymptomatic, "after": rule.days_after}
        yield self._say("rule_period", **days)
        if rule.min_stay_minutes:
            yield self._say("rule_stay", minutes=rule.min_stay_minutes)
        key = "rule_overlap" if rule.min_overlap_minutes else "rule_any_overlap"
        yield self._say(key, minutes=rule.min_overlap_minutes)
        yield self._say(f"rule_tail_{rule.tail.mode}", minutes=rule.tail.minutes)
        if rule.weights:
            weights = [self._listed(each) for each in rule.weights]
            yield self._say("rule_weights", listed=", ".join(weights))
        levels = (self._say("listed_level", name=each.name, least=f"{each.min_score:g}") for each in rule.levels)
        yield self._say("rule_levels", listed=", ".join(levels))

    def _listed(self, weight: WeightTable) -> str:
        return self._say("listed_weight", day=f"{weight.day:+d}", weight=f"{weight.weight:g}")

    def _stay(self, stay: Stay, venue: Place | None) -> Iterator[str]:
        yield self._span(stay.start_ms, stay.end_ms)
        if stay.began.estimate == "visit_before":
            yield self._end("began_after_visit", stay.began, venue)
            return
        yield self._end(f"began_{stay.began.kind}", stay.began, venue)
        key = "ended_longest" if stay.ended.estimate == "longest_stay" else f"ended_{stay.ended.kind}"
        yield self._end(key, stay.ended, venue)

    def _end(self, key: str, end: End, venue: Place | None) -> str:
        if end.scan_id is None or end.scan_at_ms is None:
            return self._say("end_unknown")
        of_venue = {"minutes": end.estimate_minutes, "category": self._category(venue)}
        dwell = end.estimate in ("venue_dwell", "category_dwell", "former_dwell")
        gaps = {
            "why": self._say(str(end.estimate), **of_venue) if dwell else "",
            "place": self._venue(end.elsewhere) if end.elsewhere else "",
        }
        scan = {"scan_id": end.scan_id, "source": end.source, "time": self._moment(end.scan_at_ms)}
        return self._say(key, **scan, **gaps, **of_venue)

    def _case_stay(self, stay: CaseStay) -> Iterator[str]:
        yield self._span(stay.start_ms, stay.end_ms)
        kinds = [self._say(f"kind_{kind}") for kind in (stay.start_kind, stay.end_kind)]
        yield self._say("case_ends", start_kind=kinds[0], end_kind=kinds[1])
        if stay.period_from_ms is None or stay.period_to_ms is None:
            if self._told.contact:
                yield self._say("case_period_unknown")
            return
        yield self._say("case_period", span=self._span(stay.period_from_ms, stay.period_to_ms))
        if stay.counts_from_ms is None or stay.counts_to_ms is None:
            yield self._say("case_outside")
            return
        yield self._say("case_counts", span=self._span(stay.counts_from_ms, stay.counts_to_ms))
        if stay.tail_to_ms is not None and stay.tail_to_ms > stay.counts_to_ms:
            yield self._say("case_tail", until=self._moment(stay.tail_to_ms))

    def _span(self, start_ms: int, end_ms: int) -> str:
        start, end = self._local(start_ms), self._local(end_ms)
        if start.date() == end.date():
            times = {"start": f"{start:%H:%M:%S}", "end": f"{end:%H:%M:%S}"}
            return self._say("same_day", day=start.strftime(self._words["day_format"]), **times)
        return self._say("days", start=self._moment(start_ms), end=self._moment(end_ms))

    def _moment(self, ms: int) -> str:
        local = self._local(ms)
        return self._say("moment", day=local.strftime(self._words["day_format"]), time=f"{local:%H:%M:%S}")

    def _local(self, ms: int) -> datetime:
        return datetime.fromtimestamp((ms + self._clock.offset_ms(ms)) // 1000, UTC)

    def _say(self, key: str, **gaps: object) -> str:
        return self._words[key].format(**gaps)
