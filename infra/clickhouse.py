"""A ClickHouse server of the project's own, from Debian's package (18.16), on free ports.

The package's service and configuration are not used: this server has its own small ones, runs as
whoever starts it, listens on loopback only and keeps everything in one folder.
"""

import os
import shutil
from pathlib import Path

from infra.ports import free_port
from infra.processes import ProcessError
from infra.server import Server

MEMORY_BYTES_MAX = 2 * 1024**3

_CONFIG = """\
<yandex>
    <logger><level>warning</level><console>1</console></logger>
    <listen_host>127.0.0.1</listen_host>
    <tcp_port>{port}</tcp_port>
    <http_port>{http_port}</http_port>
    <path>{directory}/data/</path>
    <tmp_path>{directory}/tmp/</tmp_path>
    <user_files_path>{directory}/user_files/</user_files_path>
    <users_config>{directory}/users.xml</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <mark_cache_size>67108864</mark_cache_size>
    <timezone>UTC</timezone>
    <max_concurrent_queries>32</max_concurrent_queries>
</yandex>
"""

_USERS = """\
<yandex>
    <profiles><default><max_memory_usage>{memory_bytes_max}</max_memory_usage></default></profiles>
    <users>
        <default>
            <password></password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
        </default>
    </users>
    <quotas><default></default></quotas>
</yandex>
"""


class ClickHouseServer(Server):
    """One ClickHouse server in ``directory``; a context manager, or ``start`` and ``stop``.

    Args:
        directory: Holds configuration, data and log; kept when the server stops.
        port: The native protocol's port; None takes a free one.
        die_with_parent: The server is killed when this process is gone; False leaves it running.
    """

    name = "clickhouse"

    def __init__(self, directory: Path, *, port: int | None = None, die_with_parent: bool = True) -> None:
        super().__init__(directory, port=port, die_with_parent=die_with_parent)
        self._http_port = free_port()

    @property
    def url(self) -> str:
        """What the setting ``clickhouse`` takes."""
        return f"clickhouse://default:@127.0.0.1:{self.port}"

    def _prepare(self) -> list[str]:
        # A user other than root has no /usr/sbin on Debian's PATH.
        program = shutil.which("clickhouse-server", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
        if program is None:
            raise ProcessError("clickhouse-server: not installed; `./do test` installs Debian's package")
        config = self.directory / "config.xml"
        config.write_text(
            _CONFIG.format(port=self.port, http_port=self._http_port, directory=self.directory), encoding="utf-8"
        )
        users = self.directory / "users.xml"
        users.write_text(_USERS.format(memory_bytes_max=MEMORY_BYTES_MAX), encoding="utf-8")
        return [program, f"--config-file={config}"]
