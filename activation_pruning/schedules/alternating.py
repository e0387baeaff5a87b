"""A schedule whose sparsity falls as well: sparse and dense phases in turn."""

from dataclasses import dataclass

from activation_pruning.schedules.when import Progress, Schedule, check_unit
from activation_pruning.support.checks import check_count, check_sparsity


@dataclass(frozen=True)
class Alternating(Schedule):
    """Dense, then sparse and dense phases in turn, at last sparse for good: AC/DC.

    s = final where t >= end or (t - begin) mod (sparse + dense) < sparse, else 0; t >= begin. As a
    sparse phase begins, the masks are chosen among all weights, and hold until it ends; as a dense
    one begins, pruned weights train on from zero, and the momenta of all are set to zero.

    Args:
        final_sparsity: of the sparse phases, in [0, 1).
        begin: when the first sparse phase begins; 0 is before training.
        end: when the last one begins, or goes on; it has no end.
        sparse, dense: how long the phases before it take, at least 1.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range; `end` before `begin`.

    Source: Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural
    Networks", NeurIPS 2021 (arXiv:2106.12379): of 100 epochs begin=10, end=85, phases of 5; with
    the criterion "magnitude" and the allocation "global".

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=9)
        >>> one = Alternating(0.9, begin=1, end=7, sparse=2, dense=2)
        >>> [one(at(epoch)) for epoch in range(9)]
        [None, 0.9, None, 0.0, None, 0.9, None, 0.9, None]
    """

    final_sparsity: float
    begin: int
    end: int
    sparse: int = 5
    dense: int = 5
    by: str = "epoch"
    times = ("begin", "end")
    releases = True

    def __post_init__(self) -> None:
        check_sparsity("final_sparsity", self.final_sparsity)
        for name, least in (("begin", 0), ("end", 0), ("sparse", 1), ("dense", 1)):
            check_count(name, getattr(self, name), least)
        if self.end < self.begin:
            raise ValueError(
                f"end={self.end} is before begin={self.begin}; end must not be smaller."
            )
        check_unit(self.by)

    def due(self, progress: Progress) -> bool:
        now = self.now(progress)
        return now == self.end or (self.begin <= now < self.end and self._into(now) in self._turns)

    def target(self, progress: Progress) -> float:
        now = self.now(progress)
        last = now >= self.end
        return self.final_sparsity if last or self._is_sparse(now) else 0.0

    @property
    def _turns(self) -> tuple[int, int]:
        return 0, self.sparse

    def _into(self, now: int) -> int:
        """How long ago the sparse phase before began."""
        return (now - self.begin) % (self.sparse + self.dense)

    def _is_sparse(self, now: int) -> bool:
        return now >= self.begin and self._into(now) < self.sparse
