"""Advice at the end of an error text: what the mistake may be, and the entry of the documentation about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from syncbn.comm.signature import CONSTRUCTION, CollectiveSignature
from syncbn.pitfalls import see

_SAME_CALLS = "All ranks must make the same calls in the same order"
_ONE_RANK = f"for a layer of one rank use BatchNorm or comm=SerialComm(){see('layers-on-one-rank')}"
_EVALUATION = "evaluation"
"""Operation of ``train.evaluate``."""

_ONE_RANK_EVALUATES = (
    f"train.evaluate is a call of all ranks; on one rank alone, pass comm=SerialComm(){see('evaluation-on-one-rank')}"
)
_ALL_SAMPLES = (
    f"Pass the same samples on all ranks, of which train.evaluate takes a share on each{see('evaluation-on-one-rank')}"
)
_SAVES = f"save is a call of all ranks, of which rank 0 writes the file{see('collective-calls')}"
_AFTER_BACKWARDS = (
    "{} is a call of all ranks, after equally many forwards and backwards of each rank, also of accumulated gradients"
    + see("different-calls")
)
_NAMES = {
    "Trainer": "Trainer(...)",
    "broadcast of parameters": "broadcast_parameters",
    "check of parameters": "check_parameters",
    "read a checkpoint": "resume",
}
"""Names of calls whose operation has another one."""

_METHODS = ("barrier", "allgather", "broadcast", "split", "free")
_OF_TORCH = ("broadcast_parameters", "loss_weight")
"""Methods of communicators, and functions of ``syncbn.torch``."""

_OF_ALL_RANKS = {
    _EVALUATION: _ONE_RANK_EVALUATES,
    "average_gradients": _AFTER_BACKWARDS.format("average_gradients"),
    "sum of gradients": _AFTER_BACKWARDS.format("sum_gradients"),
    "save": _SAVES,
    "write a checkpoint": _SAVES,
    **{
        operation: f"{_NAMES.get(operation, operation)} is a call of all ranks, not of one alone"
        f"{see('collective-calls')}"
        for operation in (*_METHODS, *_OF_TORCH, "fit", "resume", "update_bn", *_NAMES)
    },
}
"""Advice by operation, for calls that users make on one rank by mistake."""

_SAME_LAYERS = f"All ranks must build the same layers in the same order; {_ONE_RANK}"
_SAME_COMMUNICATORS = f"All ranks must construct a communicator together; {_ONE_RANK}"


def on_mismatch(calls: Collection[CollectiveSignature]) -> str:
    """Return the advice if ranks are in these calls, of which no rank has raised an error of its own."""
    operations = Counter(call.operation for call in calls)
    odd = [each for each, count in operations.items() if count == min(operations.values())]  # of the fewest ranks
    known = [each for each in odd if each in _OF_ALL_RANKS]
    if len(operations) > 1 and known:
        # Where as many ranks are in each call, a method of communicators is rather not the odd one.
        others = [each for each in known if each not in _METHODS]
        advice = min(_OF_ALL_RANKS[each] for each in others or known)  # the same on all ranks
        return advice if others or "forward" not in odd else f"{advice}. {_evaluating('a rank')}"
    if set(operations) == {_EVALUATION}:
        return _ALL_SAMPLES
    if set(operations) == {"forward"} and len({call.layer for call in calls}) > 1:
        return _SAME_LAYERS
    if "forward" in operations and len(operations) > 1:
        return _evaluating("a rank")
    return f"{_SAME_CALLS}{see('different-calls')}"


def on_deadlock(texts: Collection[str]) -> str:
    """Return the advice if ranks wait for each other, given the descriptions of their waits."""
    if any(CONSTRUCTION.operation in text for text in texts):
        return _SAME_COMMUNICATORS
    if 0 < sum("forward of " in text for text in texts) < len(texts):
        return _evaluating("a rank")
    return f"{_SAME_CALLS}{see('deadlocks')}"


def on_absence(call: CollectiveSignature, rank: int, *, alone: bool, exited: bool = False) -> str:
    """Return the advice if ``rank`` waits in a call that others have not entered, "" if there is none.

    ``alone`` means that no other rank has entered it, and ``exited`` that the script of another rank has ended.
    """
    if call == CONSTRUCTION:
        return _SAME_COMMUNICATORS
    if call.operation in _OF_ALL_RANKS and alone:
        return _OF_ALL_RANKS[call.operation]
    evaluating = call.operation == "forward" and alone
    if exited:
        alone_text = f", or rank {rank} evaluates alone, which needs model.eval() first{see('evaluation-on-one-rank')}"
        return "Ranks have made different numbers of calls: one had fewer batches or left a loop early" + (
            alone_text if evaluating else see("lost-ranks")
        )
    return _evaluating(f"rank {rank}") if evaluating else ""


def _evaluating(who: str) -> str:
    return (
        f"Is {who} evaluating? Call model.eval() first, or train.evaluate with comm=SerialComm(). In training, all "
        f"ranks must make the same calls in the same order, with the same layers in training mode"
        f"{see('evaluation-on-one-rank')}"
    )
