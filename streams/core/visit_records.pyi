# Types of visit_records.pyx.
from collections.abc import Container

from streams.core.crossing import Crossed
from streams.core.records import Records

def kept(records: Records, cases: Container[bytes]) -> tuple[dict[bytes, bytes | None], list[Crossed]] | None: ...
