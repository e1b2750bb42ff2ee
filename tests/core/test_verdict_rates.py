"""How often a verdict is wrong, on pairs drawn with a known truth."""

import numpy as np
import pytest

from edgewright.core.contract import Contract, Outcome, judge
from edgewright.core.evidence import PairedCounts

CLASSES, N = 10, 2000
LIMITS = Contract(accuracy_drop_bp=50, worst_class_drop_bp=300, min_retention_bp=9500)


def _outcomes(lost, gained, *, runs, classes):
    """Return the verdicts on ``runs`` draws of samples lost and gained at these rates."""
    draw = np.random.default_rng(5)
    found = []
    for _ in range(runs):
        kinds = draw.choice(3, size=N, p=[lost, gained, 1 - lost - gained])
        right = (kinds == 0) | ((kinds == 2) & (draw.uniform(size=N) < 0.95))
        groups = [np.ones(N, bool), *(np.arange(N) % CLASSES == c for c in range(classes))]
        counts = [
            PairedCounts(
                str(place), int(one.sum()), int(right[one].sum()),
                int((kinds[one] == 0).sum()), int((kinds[one] == 1).sum()),
            )
            for place, one in enumerate(groups)
        ]  # fmt: skip
        found.append(judge(LIMITS, (), counts).outcome)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_a_candidate_that_lost_nothing_is_hardly_ever_failed(classes):
    """At most one in twenty, with one sample in twenty-five differing either way."""
    found = _outcomes(0.02, 0.02, runs=150, classes=classes)

    assert found.count(Outcome.FAIL) <= 0.05 * len(found)


@pytest.mark.slow
def test_two_points_lost_are_found():
    """Against half a point, from 2000 samples of which 4 % differ: 95 times in 100."""
    found = _outcomes(0.03, 0.01, runs=400, classes=0)

    assert found.count(Outcome.FAIL) >= 0.95 * len(found)


@pytest.mark.slow
def test_a_loss_beyond_the_limit_hardly_ever_passes():
    """One point lost, half a point allowed: at most one in twenty."""
    found = _outcomes(0.025, 0.015, runs=150, classes=0)

    assert found.count(Outcome.PASS) <= 0.05 * len(found)
