"""Settings of every process: one frozen model, filled from a TOML file and the environment.

Precedence: environment variable ``TRUYVET_<NAME>`` over the file named by ``TRUYVET_CONFIG`` over the
default here. A wrong value is one sentence that names the setting, and exit status 2.
"""

import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ENV_PREFIX = "TRUYVET_"
CONFIG_FILE_VARIABLE = "TRUYVET_CONFIG"
SECRET_SETTINGS = frozenset({"sasl_password", "clickhouse"})
"""Settings whose values are, or hold, passwords: no message shows them."""
_SENTENCE_CHARS_MAX = 500


class ConfigError(Exception):
    """A setting is wrong; the message is one sentence that names it."""


class Settings(BaseModel):
    """All settings of all processes; units stand in the names, meanings in the docstrings below them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # The broker. The local stack fills these in by itself; your own broker goes here.
    brokers: str = Field("127.0.0.1:9092", min_length=1)
    """Kafka's bootstrap servers, `host:port`, separated by commas. Set: `truyvet up` uses them and starts no broker."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How clients talk to the broker."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How clients log in, where `security_protocol` is one of SASL."""
    sasl_username: str = ""
    """The login's name; must be set where `security_protocol` is one of SASL."""
    sasl_password: str = Field("", repr=False)
    """The login's password; never printed."""
    ssl_ca_file: str = ""
    """PEM file of the authorities that sign the broker's certificate; empty: the system's."""
    topic_prefix: str = Field("checkin.", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    """Stands before every topic's name. Restating history is a replay into a new prefix and database."""
    partitions: int = Field(12, ge=1, le=1000)
    """Partitions of every topic, fixed for the life of a prefix."""
    replication_factor: int = Field(1, ge=1, le=10)
    """Replicas of topics that are created; 3 on a cluster."""

    # What results mean.
    report_timezone: str = "Asia/Ho_Chi_Minh"
    """IANA time zone of reporting days, hours and minutes."""
    retention_days: int = Field(28, ge=1, le=3650)
    """Days of event time that scans are kept and duplicates are found; older scans are rejected `too_old`."""
    rulesets_dir: str = ""
    """Folder of rulesets (docs/rulesets.md) beside those shipped, which one of the same name replaces; empty: none."""
    rulesets_shipped: bool = True
    """Whether the shipped rulesets are known beside those of `rulesets_dir`; `replay` of a folder with its own: not."""
    restating: bool = False
    """True in `replay` and the demo: CreateTime on every topic, and nothing expires."""
    rehearse_expiry: bool = False
    """With `restating`: lets state go of old days by the records' own timestamps all the same. For rehearsals only."""

    # The worker.
    state_dir: Path = Path("var/state")
    """Folder of a worker's stores; never shared by two workers. The local stack gives each its own."""
    worker_id: str = Field("", pattern=r"^[a-zA-Z0-9._-]{0,64}$")
    """Static membership in the consumer group; empty: a dynamic member. Never the same twice at once."""
    batch_records_max: int = Field(40_000, ge=1, le=100_000)
    """Most records that are fetched at once; what is of one partition becomes one step, which is one transaction."""
    session_timeout_ms: int = Field(6_000, ge=1_000, le=300_000)
    """How long a silent worker keeps its partitions, in milliseconds."""

    # The sink and ClickHouse.
    clickhouse: str = Field("embedded", repr=False)
    """`embedded` (chDB in `embedded_dir`, owned by the sink) or `clickhouse://user:password@host:port`."""
    database: str = Field("checkin", pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$")
    """ClickHouse database of all tables and views."""
    embedded_dir: Path = Path("var/clickhouse")
    """Folder of the embedded database; one process at a time can open it."""
    query_host: str = "127.0.0.1"
    """Where the sink listens for read-only queries."""
    query_port: int = Field(8127, ge=0, le=65535)
    """Where the sink answers read-only queries (HTTP); 0 takes a free port."""
    sink_batch_rows_max: int = Field(200_000, ge=1, le=2_000_000)
    """Most rows of one insert."""
    sink_batch_ms: int = Field(500, ge=10, le=60_000)
    """How long the sink gathers rows before it inserts them, in milliseconds."""

    # What every process shows.
    http_host: str = "127.0.0.1"
    """Where a process listens for `/metrics`, `/healthz` and `/progress`."""
    http_port: int = Field(0, ge=0, le=65535)
    """Port of `/metrics`, `/healthz` and `/progress`; 0: a free one. The local stack gives each process its own."""
    log_format: Literal["text", "json"] = "text"
    """How log lines on stderr are written."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important log lines that are written."""

    @field_validator("report_timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("is no IANA time zone, such as Asia/Ho_Chi_Minh") from error
        return value

    @field_validator("clickhouse")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        if value == "embedded":
            return value
        try:
            parts = urlsplit(value)
            valid = parts.scheme == "clickhouse" and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number, or too large a one
            valid = False
        if not valid:
            raise ValueError("must be 'embedded' or clickhouse://user:password@host:port")
        return value

    @model_validator(mode="after")
    def _sasl_complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError("SASL_USERNAME: must be set when security_protocol is one of SASL")
        return self

    @property
    def retention_ms(self) -> int:
        """Retention of scans, in milliseconds of event time."""
        return self.retention_days * 86_400_000

    def topic(self, name: str) -> str:
        """The topic's full name: prefix and name."""
        return self.topic_prefix + name

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """The connection options of every confluent-kafka client."""
        options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.brokers,
            "security.protocol": self.security_protocol,
            # The process that waits says what a client cannot do; librdkafka would say it 20 times a second.
            "log_level": 2,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password,
            }
        if self.ssl_ca_file:
            options["ssl.ca.location"] = self.ssl_ca_file
        return options

    def ssl_context(self) -> ssl.SSLContext | None:
        """What clients in Python check the broker's certificate with; None where the connection is not encrypted."""
        if not self.security_protocol.endswith("SSL"):
            return None
        return ssl.create_default_context(cafile=self.ssl_ca_file or None)

    def aiokafka(self) -> dict[str, Any]:
        """The connection options of every client of aiokafka but Faust's own, which has other names for them."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.brokers,
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options

    def environment(self) -> dict[str, str]:
        """The variables that give a child process these same settings."""
        return {ENV_PREFIX + name.upper(): str(value) for name, value in self.model_dump(mode="json").items()}


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Reads file and environment; ``overrides`` (from the command line) win.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    path = environ.get(CONFIG_FILE_VARIABLE)
    if path:
        try:
            values |= tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{CONFIG_FILE_VARIABLE}={path}: cannot be read as TOML: {error}") from error
    for name in Settings.model_fields:
        text = environ.get(ENV_PREFIX + name.upper())
        if text is not None:
            values[name] = text
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
    for variable in environ:
        if variable.startswith(ENV_PREFIX) and variable not in known:
            raise ConfigError(f"{variable}: no such setting; see docs/configuration.md for the list")
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first complaint, naming its setting. What was given is shown where it cannot be a secret."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{name}: no such setting; see docs/configuration.md for the list"
    if not name:
        return f"{ENV_PREFIX}{message}"
    sentence = f"{ENV_PREFIX}{name.upper()}: {message}"
    if name not in SECRET_SETTINGS:
        sentence += f" (got {first['input']!r})"
    return sentence[:_SENTENCE_CHARS_MAX]
