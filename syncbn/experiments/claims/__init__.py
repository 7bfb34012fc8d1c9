"""Claims about batch normalization, each measured on real images.

``claim`` has the base class, and ``searched`` that of claims whose learning rate is searched. One module for each claim
derives from them, and `CLAIMS` lists all. ``runner`` measures them on the ranks, ``store`` keeps finished pieces,
``check`` has the rule of the verdicts, and ``report`` writes the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncbn.experiments.claims.claim import Claim
from syncbn.experiments.claims.covariate_shift import CovariateShift
from syncbn.experiments.claims.drift import Drift
from syncbn.experiments.claims.epsilon import Epsilon
from syncbn.experiments.claims.exact import Exact
from syncbn.experiments.claims.inference import Inference
from syncbn.experiments.claims.initialization import Initialization
from syncbn.experiments.claims.learning_rate import LearningRate
from syncbn.experiments.claims.momentum import Momentum
from syncbn.experiments.claims.not_always import NotAlways
from syncbn.experiments.claims.overhead import Overhead
from syncbn.experiments.claims.placement import Placement
from syncbn.experiments.claims.regularization import Regularization
from syncbn.experiments.claims.small_batch import SmallBatch

CLAIMS: Mapping[str, Claim[Any]] = {
    claim.name: claim
    for claim in (
        LearningRate(),
        CovariateShift(),
        Initialization(),
        Regularization(),
        SmallBatch(),
        Inference(),
        Placement(),
        Epsilon(),
        Overhead(),
        Drift(),
        NotAlways(),
        Momentum(),
        Exact(),
    )
}
"""All claims by their name on the command line."""
