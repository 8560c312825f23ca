# Types of visit_records.pyx.
from collections.abc import Container, Sequence

from streams.core.crossing import Crossed
from streams.core.step import InRecord

def kept(
    records: Sequence[InRecord], cases: Container[bytes]
) -> tuple[dict[bytes, bytes | None], list[Crossed]] | None: ...
