"""Requests that the brokers carry out after their sender has given up: held on the way, behind whatever comes next.

A held one is carried out once some more requests of the same ``transactional.id`` have come, by the same owner or by a
newer one; half of them only in the midst of a later transaction. At the latest after some time.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tests.sim.outside import World

if TYPE_CHECKING:
    from tests.sim.kafka import Identity

Kind = Literal["init", "partitions", "records", "commit"]
KINDS: Final[tuple[Kind, ...]] = ("init", "partitions", "records", "commit")
_SECONDS_MAX: Final = 40.0


@dataclass(slots=True, eq=False)
class Held:
    """A request that is on its way still."""

    kind: Kind
    identity: "Identity"
    carry_out: Callable[[], object]
    own: int
    """The number of the last transaction that it may rightly concern."""
    within: bool
    """Whether it is only carried out while a later transaction is open, if there is one in time."""
    passes: int
    """So many requests more come before it."""
    until: float
    given_up: bool = False


class LateRequests:
    """All that are held; ``counts`` how many were carried out, by kind, and how many within a later transaction."""

    def __init__(self, world: World) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._held: list[Held] = []

    @property
    def under_way(self) -> int:
        """How many are held."""
        return len(self._held)

    def hold(self, kind: Kind, identity: "Identity", carry_out: Callable[[], object]) -> Held:
        """Holds a request; it is let go of only after its sender has given up."""
        rng, current = self._world.rng, identity.current
        own = identity.begun
        if kind in ("partitions", "records") and (current is None or current.decided):
            own += 1  # it is about the transaction that begins with it
        within = rng.random() < 0.7
        until = self._world.time() + rng.uniform(0.0, _SECONDS_MAX)
        held = Held(kind, identity, carry_out, own, within, rng.randint(0, 4 if within else 8), until)
        self._held.append(held)
        return held

    def pass_by(self, identity: "Identity") -> None:
        """A request of this ``transactional.id`` comes: those held before it may come first."""
        for held in [one for one in self._held if one.identity is identity and one.given_up]:
            if not held.within or _is_later(held):
                held.passes -= 1
                if held.passes < 0:
                    self._carry_out(held)

    def come_in_the_end(self) -> None:
        """Carries out those that have been on their way for long enough."""
        now = self._world.time()
        for held in [one for one in self._held if one.given_up and one.until <= now]:
            self._carry_out(held)

    def _carry_out(self, held: Held) -> None:
        with suppress(ValueError):
            self._held.remove(held)
        self.counts[f"late {held.kind}"] += 1
        if _is_later(held):
            self.counts[f"late {held.kind} within a later transaction"] += 1
        held.carry_out()


def _is_later(held: Held) -> bool:
    """Whether a transaction is open that was begun after the one that the request belongs to."""
    current = held.identity.current
    return current is not None and not current.decided and held.identity.begun > held.own
