"""Writes the pages of ``docs/`` that are generated: settings and metrics.

``./do docs`` writes them; a test holds them current.
"""

from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic.fields import FieldInfo

from infra.processes import PROJECT_DIR
from truyvet.config import CONFIG_FILE_VARIABLE, ENV_PREFIX, SECRET_SETTINGS, Settings
from truyvet.metrics import METRICS, Metric

DOCS_DIR = PROJECT_DIR / "docs"

# First setting of each section; the sections of truyvet/config.py, in its order.
_SECTIONS = {
    "brokers": "The broker",
    "report_timezone": "What results mean",
    "state_dir": "The worker",
    "clickhouse": "The sink and ClickHouse",
    "http_host": "What every process shows",
}

_CONFIGURATION_HEAD = f"""\
# Settings

Every process takes the same settings. `{ENV_PREFIX}<NAME>` in the environment wins over the TOML file that
`{CONFIG_FILE_VARIABLE}` names (flat, names in lower case: `partitions = 12`), which wins over the default.
A wrong or unknown setting is one sentence on stderr and exit status 2, before anything starts; passwords are
never part of such a sentence, nor of a log line.

This page is generated from `truyvet/config.py` by `./do docs`.
"""

_METRICS_HEAD = """\
# Metrics

Every process shows these at `/metrics` (the sink at its query port), in Prometheus' text format, beside
`process_*` (CPU seconds, resident bytes, open files). A histogram also has `_bucket`, `_sum` and `_count`.
`/healthz` answers 200 while the process makes progress, else 503 and why; `/progress` tells positions as JSON.

This page is generated from `truyvet/metrics.py` by `./do docs`.

| metric | kind | unit | labels | meaning |
|---|---|---|---|---|
"""


def configuration_page() -> str:
    """The page of settings."""
    parts = [_CONFIGURATION_HEAD]
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            parts.append(f"\n## {_SECTIONS[name]}\n\n| variable | default | takes | meaning |\n|---|---|---|---|\n")
        meaning = " ".join((field.description or "").split())
        parts.append(f"| `{ENV_PREFIX}{name.upper()}` | {_default(field)} | {_takes(name, field)} | {meaning} |\n")
    return "".join(parts)


def metrics_page() -> str:
    """The page of metrics."""
    return _METRICS_HEAD + "".join(_metric_row(metric) for metric in METRICS)


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    return {DOCS_DIR / "configuration.md": configuration_page(), DOCS_DIR / "metrics.md": metrics_page()}


def _metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    return f"| `{metric.full_name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |\n"


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "empty" if field.default == "" else f"`{field.default}`"


def _takes(name: str, field: FieldInfo) -> str:
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation is bool:
        return "`true`, `false`"
    if annotation is int:
        low = next(str(limit.ge) for limit in field.metadata if isinstance(limit, Ge))
        high = next(str(limit.le) for limit in field.metadata if isinstance(limit, Le))
        return f"{low} to {high}"
    if annotation is Path:
        return "a path"
    pattern = next((limit.pattern for limit in field.metadata if getattr(limit, "pattern", None)), None)
    if pattern is not None:
        return f"`{pattern}`".replace("|", "\\|")
    text = "text, not empty" if any(isinstance(limit, MinLen) for limit in field.metadata) else "text"
    return f"{text} (secret)" if name in SECRET_SETTINGS else text


def main() -> None:
    """Writes every page anew."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(PROJECT_DIR)}")


if __name__ == "__main__":
    main()
