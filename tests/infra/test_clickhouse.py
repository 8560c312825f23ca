"""The ClickHouse server that tests use, Debian's 18.16."""

from pathlib import Path

import pytest
from clickhouse_driver import Client

from infra.clickhouse import ClickHouseServer
from infra.ports import accepts
from infra.processes import ProcessError


def test_the_server_is_debians_and_speaks_the_native_protocol(clickhouse_server: ClickHouseServer) -> None:
    """The oldest version that must take the sink's rows is the one that is tested."""
    client = Client.from_url(clickhouse_server.url)
    assert client.execute("SELECT version(), timezone()")[0][0].startswith("18.16.")
    client.disconnect()


def test_a_server_keeps_its_data_over_a_restart_and_listens_on_loopback_only(tmp_path: Path) -> None:
    """Stopped and started again in its folder, it has its rows."""
    server = ClickHouseServer(tmp_path / "clickhouse")
    with server:
        client = Client.from_url(server.url)
        client.execute("CREATE TABLE kept (n Int64) ENGINE = MergeTree ORDER BY n")
        client.execute("INSERT INTO kept VALUES", [(7,)])
        client.disconnect()
    assert not accepts(server.port)
    with server:
        client = Client.from_url(server.url)
        assert client.execute("SELECT n FROM kept") == [(7,)]
        client.disconnect()


def test_a_missing_server_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says what installs it."""
    monkeypatch.setattr("infra.clickhouse.shutil.which", lambda *_, **__: None)
    with pytest.raises(ProcessError, match=r"clickhouse-server: not installed; `./do test` installs"):
        ClickHouseServer(tmp_path / "clickhouse").start()
