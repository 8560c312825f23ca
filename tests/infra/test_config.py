"""Settings: where they come from, and what a wrong one says."""

from pathlib import Path

import pytest

from truyvet import cli
from truyvet.config import ENV_PREFIX, ConfigError, Settings, load_settings

SECRET = "hunter2"


def test_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    """The three sources, and overrides of the command line above all of them."""
    file = tmp_path / "truyvet.toml"
    file.write_text('partitions = 3\ndatabase = "filed"\nretention_days = 9\n')
    environ = {"TRUYVET_CONFIG": str(file), "TRUYVET_DATABASE": "given", "TRUYVET_RETENTION_DAYS": "8", "HOME": "/"}
    settings = load_settings(environ, retention_days=7, http_port=None)
    assert (settings.partitions, settings.database, settings.retention_days) == (3, "given", 7)
    assert settings.topic_prefix == "checkin."
    assert settings.retention_ms == 7 * 86_400_000


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    """What environment() gives, load_settings() reads back."""
    settings = Settings(restating=True, partitions=4, state_dir=tmp_path, sasl_password=SECRET, clickhouse="embedded")
    assert load_settings(settings.environment()) == settings


WRONG = [
    ({"PARTITIONS": "many"}, r"^TRUYVET_PARTITIONS: .*valid integer.* \(got 'many'\)$"),
    ({"PARTITIONS": "0"}, r"^TRUYVET_PARTITIONS: .*greater than or equal to 1 \(got '0'\)$"),
    ({"REPORT_TIMEZONE": "Asia/Hanoi"}, r"^TRUYVET_REPORT_TIMEZONE: is no IANA time zone"),
    ({"REPORT_TIMEZONE": "../UTC"}, r"^TRUYVET_REPORT_TIMEZONE: is no IANA time zone"),
    ({"SECURITY_PROTOCOL": "SASL_SSL"}, r"^TRUYVET_SASL_USERNAME: must be set"),
    ({"LOG_FORMAT": "xml"}, r"^TRUYVET_LOG_FORMAT: .*'text' or 'json'"),
    ({"DATABASE": "a; DROP"}, r"^TRUYVET_DATABASE: "),
    ({"CLICKHOUSE": f"http://user:{SECRET}@host"}, r"^TRUYVET_CLICKHOUSE: must be 'embedded' or"),
    ({"CLICKHOUSE": f"clickhouse://user:{SECRET}@host:99999"}, r"^TRUYVET_CLICKHOUSE: must be 'embedded' or"),
    ({"CLICKHOUSE": "clickhouse://"}, r"^TRUYVET_CLICKHOUSE: must be 'embedded' or"),
    ({"PARTITION": "3"}, r"^TRUYVET_PARTITION: no such setting; see docs/configuration.md"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG)
def test_a_wrong_setting_is_one_sentence_without_secrets(changes: dict[str, str], sentence: str) -> None:
    """The setting is named, the password is not, whatever else is wrong beside it."""
    environ = {"TRUYVET_SASL_PASSWORD": SECRET} | {ENV_PREFIX + name: value for name, value in changes.items()}
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_settings(environ)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f'sasl_pasword = "{SECRET}"', r"^sasl_pasword: no such setting"),
        ("partitions = [3]", r"^TRUYVET_PARTITIONS: "),
        ("partitions =", r"^TRUYVET_CONFIG=.*cannot be read as TOML"),
        ("[broker]\nbrokers = 'x'", r"^broker: no such setting"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """A file is held to the same rules."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_settings({"TRUYVET_CONFIG": str(file)})
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """A file that is not there is an error, not an empty one."""
    with pytest.raises(ConfigError, match=r"^TRUYVET_CONFIG=.*none\.toml: cannot be read"):
        load_settings({"TRUYVET_CONFIG": str(tmp_path / "none.toml")})


def test_settings_do_not_show_passwords_when_printed() -> None:
    """A settings object in a log or a traceback holds no secret."""
    settings = Settings(sasl_password=SECRET, clickhouse=f"clickhouse://user:{SECRET}@host:9000")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


def test_login_reaches_the_kafka_clients_only_where_it_is_used() -> None:
    """SASL options are set with SASL alone, and the authorities' file where one is named."""
    plain = Settings(brokers="a:1", sasl_username="u", sasl_password=SECRET).librdkafka()
    assert (plain["bootstrap.servers"], plain["security.protocol"]) == ("a:1", "PLAINTEXT")
    assert not any(option.startswith(("sasl.", "ssl.")) for option in plain)
    login = Settings(
        security_protocol="SASL_SSL", sasl_username="u", sasl_password=SECRET, ssl_ca_file="/ca.pem"
    ).librdkafka()
    assert login["sasl.password"] == SECRET
    assert login["ssl.ca.location"] == "/ca.pem"


@pytest.mark.parametrize("verb", ["up", "topics"])
def test_a_verb_ends_with_2_before_anything_starts(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, exit status 2."""
    monkeypatch.setenv("TRUYVET_PARTITIONS", "many")
    assert cli.main([verb]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("truyvet: TRUYVET_PARTITIONS: ")
    assert captured.err.count("\n") == 1
