"""Mistakes of a training loop, found in what `sum_gradients` has gathered from the ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from syncbn.comm import Communicator
from syncbn.layers._losses import Loss, Losses
from syncbn.pitfalls import see
from syncbn.train.shares import Share

_SHOWN = 3
"""Largest number of normalizers in a text."""


def wrong_normalizer(losses: Losses, own_means: int, share: float, comm: Communicator) -> ValueError | None:
    """Return the error of a loss that was not divided by the number of samples of all ranks, None if there is none.

    Collective, with the numbers of all ranks.

    Parameters
    ----------
    losses : Losses
        Those of this rank.
    own_means : int
        Number of ranks that have divided by their own number of samples.
    share : float
        Samples / normalizer, summed over ranks.
    comm : Communicator
    """
    if own_means <= 1 and not _is_wrong(share):
        return None
    if own_means > 1:
        problem = (
            f"{own_means} of {comm.size} ranks divided their loss by their own number of samples, so the sum of the "
            "gradients is not that of a mean"
        )
    else:
        everywhere = [loss for loss in comm.allgather(losses.last) if loss is not None]
        samples = sum(loss.samples for loss in everywhere)
        divisors = [f"{number:g}" for number in dict.fromkeys(loss.normalizer for loss in everywhere)]
        shown = ", ".join(divisors[:_SHOWN]) + (", ..." if len(divisors) > _SHOWN else "")
        problem = f"the loss was divided by {shown}, but the ranks have {samples} samples in this step"
    return ValueError(
        f"{problem}. Pass the number of samples of all ranks to the loss, such as softmax_cross_entropy(logits, "
        "labels, len(batch)), and only the own share of them to the model, such as batch[shard(len(batch), comm.rank, "
        "comm.size)]"
        f"{see('losses-of-ranks')}"
    )


def number_of_ranks(losses: Sequence[Loss | None]) -> str:
    """Return the problem if all ranks have divided by their number, "" if not. A mean has as many samples as that."""
    size, samples = len(losses), sum(loss.samples for loss in losses if loss is not None)
    if size in (1, samples) or any(loss is None or loss.normalizer != size for loss in losses):
        return ""
    return (
        f"the loss was divided by {size}, the number of ranks, so it is not a mean, but {samples / size:g} times as "
        f"large: for a mean, pass the number of samples of all ranks, {samples} in this step, such as "
        "softmax_cross_entropy(logits, labels, len(batch))"
    )


def _is_wrong(share: float) -> bool:
    """Return whether samples / normalizer, summed over ranks, is neither a whole number nor 0 nor unknown (NaN)."""
    return share > 0 and abs(share - max(1.0, np.rint(share))) > 1e-3 * max(1.0, share)  # rounding of float32


def wrong_shares(shares: Sequence[Share | None]) -> ValueError | None:
    """Return the error of ranks that have not taken their own shares of the same batch, None if there is none.

    Nothing is known of a rank whose share is None, and of all ranks if that of rank 0 is.
    """
    for rank, share in enumerate(shares):
        if share is None or shares[0] is None:
            continue
        if share.batch != shares[0].batch:
            return ValueError(
                f"ranks train on different batches: rank 0 on {shares[0].batch}, rank {rank} on {share.batch}. Make "
                f"the same DataOrder of all samples on all ranks, and the same steps{see('batches-of-ranks')}"
            )
        if (share.rank, share.size) != (rank, len(shares)):
            return ValueError(
                f"rank {rank} of {len(shares)} has taken the share of rank {share.rank} of {share.size}: call "
                f"shard(len(batch), comm.rank, comm.size) with the communicator of the sum{see('batches-of-ranks')}"
            )
    return None


def missing_gradient(missing: Sequence[Sequence[str]]) -> RuntimeError | None:
    """Return the error of a parameter that is in the lists of all ranks: none has its gradient."""
    names = [name for name in missing[0] if all(name in others for others in missing)]
    if not names:
        return None
    return RuntimeError(
        f"parameter {names[0]!r} has no gradient on any rank after the backward: is its layer part of the forward, and "
        "does the backward of a module of your own call that of its layer? If it is not to be trained, call the eval() "
        f"of its layer{see('gradients-that-are-missing')}"
    )
