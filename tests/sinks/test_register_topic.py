"""The register through the gate, in a sink of its own: what others write to it costs nobody else."""

from infra.topics import ensure_topics
from tests.conftest import SettingsFactory
from tests.pipeline import forging
from tests.pipeline.test_hostile_batches import bombs, peak_mib, plain
from tests.sinks import data
from tests.sinks.conftest import SinkFactory

HOLDS_MIB_MAX = 64 + 2 * 64


def test_hostile_batches_cost_themselves(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Bombs, forged offsets and values that are too large: the venues behind them are stored, in little memory."""
    own = settings(partitions=1)
    ensure_topics(own)
    data.put(own, "venues", [data.venue("V1"), data.venue("V2")])
    sink = sink_process(own).start()
    sink.wait()
    before_mib = peak_mib(sink.pid)
    value = data.encoded(data.venue("V2", name="forged"))
    for one in (*bombs(b"V1"), plain([forging.record(5_000, b"V2", value)])):
        assert forging.send(own, own.topic("venues"), 0, one)[0] == 0
    data.put(own, "venues", [data.venue("V1", name="newer"), data.venue("V3")])
    sink.wait()
    found = sink.rows("SELECT venue_id, name, status FROM venues FINAL ORDER BY venue_id")
    assert [(row[0], row[2]) for row in found] == [("V1", "active"), ("V2", "active"), ("V3", "active")]
    assert found[0][1] == "newer"
    assert found[1][1] != "forged"
    assert peak_mib(sink.pid) - before_mib < HOLDS_MIB_MAX
    assert sink.end() == 0
    again = sink_process(own).start()
    again.wait()
    assert again.rows("SELECT count() FROM venues FINAL") == [(3,)]
    assert again.end() == 0
