"""What a room's producer makes of the brokers' answers, where the real ones are hard to come by."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace

import pytest

from streams.core.step import Step
from streams.shell import transaction
from streams.shell.requests import NOBODY, NONE, UNREACHABLE, Owner, Place
from streams.shell.transaction import FencedError, RefusedError, TransactionalProducer
from tests.sim.kafka_log import Batch, Unsent
from tests.sim.kafka_producer import read_batch
from truyvet.config import Settings

OWNER = Owner(7, 3)
VISITS = Settings().topic("visits")
CHANGELOG = (Settings().topic("state-person"), 0)
SAMPLES = (UNREACHABLE, 2, 3, 5, 6, 7, 14, 15, 16, 19, 51, 89)
"""Codes that pass."""


class _Requests:
    """Answers as it is told to, in turn and then that it is done; remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Sequence[int | Mapping[Place, int]]]) -> None:
        self.calls: list[str] = []
        self.added: list[list[Place]] = []
        self.sent: list[dict[Place, bytes]] = []
        self.refused: Place | None = None
        self._owner = Owner(OWNER.producer_id, OWNER.epoch - 1)
        self._answers = {what: list(codes) for what, codes in answers.items()}

    def _next(self, what: str) -> int | Mapping[Place, int]:
        self.calls.append(what)
        answers = self._answers.get(what)
        return answers.pop(0) if answers else NONE

    def _code(self, what: str) -> int:
        code = self._next(what)
        assert isinstance(code, int)
        return code

    def init_producer_id(self, owner: Owner = NOBODY) -> tuple[int, Owner]:
        assert owner in {NOBODY, self._owner}
        code = self._code("init" if owner == NOBODY else "renew")
        if code != NONE:
            return code, NOBODY
        self._owner = Owner(self._owner.producer_id, self._owner.epoch + 1)
        return code, self._owner

    def add_partitions(self, owner: Owner, places: Sequence[Place]) -> int:
        assert owner == self._owner
        self.added.append(list(places))
        return self._code("add")

    def produce(self, batches: Mapping[Place, bytes]) -> dict[Place, int]:
        self.sent.append(dict(batches))
        codes = self._next("produce")
        return {place: codes if isinstance(codes, int) else codes.get(place, NONE) for place in batches}

    def commit_transaction(self, owner: Owner) -> int:
        assert owner == self._owner
        return self._code("commit")

    def close(self) -> None:
        self.calls.append("close")


Told = Callable[..., tuple[TransactionalProducer, _Requests]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """A producer, and what it asks, which is told what to answer."""
    monkeypatch.setattr(transaction, "time", SimpleNamespace(sleep=lambda _: None))

    def make(**answers: Sequence[int | Mapping[Place, int]]) -> tuple[TransactionalProducer, _Requests]:
        requests = _Requests(answers)
        monkeypatch.setattr(transaction, "Requests", lambda *_: requests)
        return TransactionalProducer(Settings(partitions=3), "person", 0, "state-person"), requests

    return make


def _step(number: int = 1, records: int = 1) -> Step:
    """A step with so many records to each of three partitions of a topic, and a change."""
    step = Step(number=number, timestamp_ms=0, changes={b"k": b"%d" % number})
    for record in range(records):
        for partition in range(3):
            step.emit("visits", b"key", b"%d" % record, 5, partition)
    return step


def _batches(requests: _Requests, place: Place) -> Iterable[Batch]:
    return (read_batch(sent[place]) for sent in requests.sent if place in sent)


def test_a_step_is_one_transaction_of_batches(told: Told) -> None:
    """Its partitions, one batch to each, the commit; the next one's batches go on with the sequence numbers."""
    producer, requests = told()
    for number in (1, 2):
        producer.commit(_step(number, records=2))
    producer.close()
    assert requests.calls == ["init", *("add", "produce", "commit") * 2, "close"]
    places: list[Place] = [*((VISITS, p) for p in range(3)), CHANGELOG]
    assert requests.added == [places, places]
    assert [sorted(sent) for sent in requests.sent] == [sorted(places)] * 2
    records: list[Unsent] = [(b"key", b"0", 5, []), (b"key", b"1", 5, [])]
    assert list(_batches(requests, (VISITS, 1))) == [Batch(*OWNER, 0, records), Batch(*OWNER, 2, records)]
    assert list(_batches(requests, CHANGELOG)) == [
        Batch(*OWNER, sequence, [(b"k", b"%d" % (sequence + 1), 1, [])]) for sequence in (0, 1)
    ]


@pytest.mark.parametrize("what", ["init", "add", "produce", "commit"])
def test_what_passes_is_asked_again(told: Told, what: str) -> None:
    """Whatever has not answered, or says that it cannot yet, and nothing before it."""
    producer, requests = told(**{what: SAMPLES})
    producer.commit(_step())
    order = ["init", "add", "produce", "commit", *(["renew"] if what != "init" else [])]
    assert requests.calls == [call for call in order for _ in range(len(SAMPLES) + 1 if call == what else 1)]
    assert all(one == other for one, other in pairwise(requests.added))
    assert all(one == other for one, other in pairwise(requests.sent)), "the same bytes, under the same numbers"


def test_only_what_was_not_taken_is_sent_again(told: Told) -> None:
    """With the same bytes; a batch that is known to be there counts as taken."""
    refused: Sequence[Mapping[Place, int]] = [
        {(VISITS, 0): 6, (VISITS, 1): 46, CHANGELOG: UNREACHABLE},
        {(VISITS, 0): 5},
        {(VISITS, 0): 46},
    ]
    producer, requests = told(produce=refused)
    producer.commit(_step())
    first, *later = requests.sent
    assert [set(sent) for sent in later] == [{(VISITS, 0), CHANGELOG}, {(VISITS, 0)}]
    assert all(sent.items() <= first.items() for sent in later)
    assert requests.calls[-2:] == ["commit", "renew"]


def test_batches_of_a_partition_go_out_in_order(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one only after the one before was taken, whatever others do meanwhile."""
    monkeypatch.setattr(transaction, "BATCH_BYTES_MAX", 1)
    slow = (VISITS, 1)
    producer, requests = told(produce=[{slow: 6}, {slow: UNREACHABLE}])
    producer.commit(_step(records=3))
    numbers = [(batch.sequence, batch.records[0][1]) for batch in _batches(requests, slow)]
    assert numbers == [(0, b"0"), (0, b"0"), (0, b"0"), (1, b"1"), (2, b"2")]
    for place in ((VISITS, 0), (VISITS, 2)):
        assert [batch.sequence for batch in _batches(requests, place)] == [0, 1, 2]
    assert requests.calls[-2:] == ["commit", "renew"]


@pytest.mark.parametrize("code", [UNREACHABLE, 7])
@pytest.mark.parametrize("what", ["add", "produce", "commit"])
def test_no_answer_is_followed_by_a_new_epoch(told: Told, what: str, code: int) -> None:
    """Before the next transaction, whose batches begin at 0 under it; other answers, and other steps, need none."""
    producer, requests = told(**{what: [NONE, code, NONE, 19]})
    for number in range(4):
        producer.commit(_step(number))
    order = ["add", "produce", "commit"]
    second = [call for call in order for _ in range(2 if call == what else 1)]
    assert requests.calls == ["init", *order, *second, "renew", *second, *order]
    numbers = [(batch.epoch, batch.sequence) for batch in _batches(requests, CHANGELOG)]
    epoch = OWNER.epoch
    assert sorted(set(numbers)) == [(epoch, 0), (epoch, 1), (epoch + 1, 0), (epoch + 1, 1)]


def test_one_partition_without_an_answer_is_enough(told: Told) -> None:
    """Though another one says what is worse."""
    producer, requests = told(produce=[{(VISITS, 0): 6, (VISITS, 1): UNREACHABLE}])
    producer.commit(_step())
    assert requests.calls == ["init", "add", "produce", "produce", "commit", "renew"]


@pytest.mark.parametrize(
    ("code", "error"), [(47, FencedError), (90, FencedError), (49, FencedError), (53, RefusedError)]
)
def test_a_new_epoch_that_is_refused_ends_it(told: Told, code: int, error: type[Exception]) -> None:
    """A newer owner has started meanwhile: this one writes no more."""
    producer, requests = told(commit=[UNREACHABLE], renew=[UNREACHABLE, 51, code])
    with pytest.raises(error, match=f"person-0: new epoch: .*error {code}"):
        producer.commit(_step())
    assert requests.calls[-5:] == ["commit", "commit", "renew", "renew", "renew"]


def test_a_refusal_says_where(told: Told) -> None:
    """Topic and partition, and of what is too large how large it is, and nothing of what it holds."""
    step = _step()
    step.emit("visits", b"key", b"secret" * 500, 5, 1)
    producer, _ = told(produce=[{(VISITS, 1): 10}])
    with pytest.raises(RefusedError) as refusal:
        producer.commit(step)
    text = str(refusal.value)
    assert f"{VISITS}, partition 1, a batch of " in text
    assert "with 2 records, the largest of 3,003 bytes of key and value" in text
    assert "error 10: raise the topic's max.message.bytes" in text
    assert "secret" not in text
    producer, requests = told(add=[29])
    requests.refused = (VISITS, 2)
    with pytest.raises(RefusedError, match=rf"{VISITS}, partition 2, with error 29: .*right to write to the topic"):
        producer.commit(_step())


@pytest.mark.parametrize("what", ["add", "produce", "commit"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        *((code, FencedError) for code in (45, 47, 48, 49, 59, 90, 120)),
        *((code, RefusedError) for code in (10, 29, -1)),
    ],
)
def test_other_answers_end_it(told: Told, what: str, code: int, error: type[Exception]) -> None:
    """An owner that is none any more, or a broker that refuses for good: nothing more is asked for the step."""
    producer, requests = told(**{what: [UNREACHABLE, code]})
    with pytest.raises(error, match=f"person-0: commit: .*error {code}"):
        producer.commit(_step())
    assert requests.calls[-2:] == [what, what]


@pytest.mark.parametrize("codes", [{(VISITS, 0): 5, (VISITS, 2): 47}, {(VISITS, 0): 47, (VISITS, 2): 5}])
def test_one_partition_that_refuses_is_enough(told: Told, codes: Mapping[Place, int]) -> None:
    """Though another one could be asked again."""
    producer, requests = told(produce=[codes])
    with pytest.raises(FencedError):
        producer.commit(_step())
    assert requests.calls == ["init", "add", "produce"]


@pytest.mark.usefixtures("told")
def test_a_take_over_that_is_refused_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections are given back, since there is no producer that could be closed."""
    made: list[_Requests] = []

    def make(*_: object) -> _Requests:
        made.append(_Requests({"init": [UNREACHABLE, 53]}))
        return made[-1]

    monkeypatch.setattr(transaction, "Requests", make)
    with pytest.raises(RefusedError, match=r"person-0: opening: .*error 53"):
        TransactionalProducer(Settings(), "person", 0, "state-person")
    assert made[0].calls == ["init", "init", "close"]


def test_a_broker_that_is_away_is_said_once(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """And that it is back; what passes within moments is not worth a line."""
    producer, _ = told(add=[51] * 20, produce=[6, 6], commit=[UNREACHABLE] * 20)
    producer.commit(_step())
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        f"commit waits for the broker: error {UNREACHABLE}",
        "commit went on: the broker is back",
    ]
