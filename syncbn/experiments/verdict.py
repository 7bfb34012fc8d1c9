"""The verdict of a comparison: one sentence derived from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.results import Cell
from syncbn.experiments.statistics import Interval

Rival = tuple[str, Interval]


def verdict(cells: Sequence[Cell], ranks: int) -> str:
    """Return the result at the smallest and at the largest batch size per rank, and at the largest learning rate.

    BN (or the first normalizer, if BN did not run) is compared with SyncBN and with the best of the others at
    the smallest batch size. Two errors are level if their intervals overlap; with one seed there are no intervals,
    which the sentence states. With several learning rates, this is the result at the smallest one; another sentence
    compares no normalization with these at the largest one, and the last one counts the settings in which SyncBN has
    another error than each of the others.
    """
    if not cells:
        return "There are no runs."
    rates = sorted({cell.lr for cell in cells})
    several = len(rates) > 1
    found = [cell for cell in cells if cell.lr == rates[0]]
    batches = sorted({cell.batch for cell in found})
    subject = _subject(found)
    small, large = _at(found, batches[0]), _at(found, batches[-1])
    rivals = _rivals(small, subject)
    setting = f"with {batches[0]} sample{'s' * (batches[0] > 1)} per rank on {ranks} rank{'s' * (ranks > 1)}"
    setting = f"At learning rate {rates[0]:g}, {setting}" if several else setting.replace("with", "With", 1)
    sentence = f"{setting}, " + _compare(small, subject, rivals)
    if len(batches) > 1 and subject in large and rivals[:1] and rivals[0] in large:
        sentence += f"; at {batches[-1]} per rank " + _compare(large, subject, rivals[:1])
    fast = _at([cell for cell in cells if cell.lr == rates[-1]], batches[0])
    rivals = [norm for norm in rivals if norm != "none"]
    if several and {"none", *rivals} <= fast.keys() and rivals:
        sentence += f". At {rates[-1]:g}, with {batches[0]} per rank, " + _compare(fast, "none", rivals)
    if several and (counted := _count_settings(cells)):
        sentence += f". {counted}"
    if min(cell.runs for cell in cells) == 1:
        sentence += " (one seed: no intervals, so differences may be due to chance)"
    return sentence + "."


def _count_settings(cells: Sequence[Cell]) -> str:
    """Return the sentence on the settings in which SyncBN has a smaller or larger error than each other, "" without it.

    A setting is a batch size and a learning rate. A normalizer that diverged has the larger error.
    """
    ours = {(cell.batch, cell.lr): cell for cell in cells if cell.norm == "syncbn"}
    if not ours or any(cell.runs == 1 for cell in cells):
        return ""
    smaller: dict[str, int] = {}
    larger: dict[str, int] = {}
    for other in cells:
        own = ours.get((other.batch, other.lr))
        if own is not None and other.norm != "syncbn":
            smaller[other.norm] = smaller.get(other.norm, 0) + _is_smaller(own.test_error, other.test_error)
            larger[other.norm] = larger.get(other.norm, 0) + _is_smaller(other.test_error, own.test_error)
    if not smaller:
        return ""
    counts = _join([f"of {_label(norm)} in {count}" for norm, count in smaller.items()])
    losses = [f"of {_label(norm)} in {count}" for norm, count in larger.items() if count]
    sentence = f"In {len(ours)} settings, the interval of SyncBN's error is below that {counts}"
    return sentence + (f", and above that {_join(losses)}" if losses else "")


def _is_smaller(a: Interval | None, b: Interval | None) -> bool:
    """Return whether error a is certainly smaller than b; None is that of a normalizer that diverged."""
    if a is None or b is None:
        return a is not None
    return a.mean < b.mean and not a.overlaps(b)


def _subject(cells: Sequence[Cell]) -> str:
    norms = list(dict.fromkeys(cell.norm for cell in cells))
    return "bn" if "bn" in norms else next((norm for norm in norms if norm != "none"), norms[0])


def _at(cells: Sequence[Cell], batch: int) -> dict[str, Cell]:
    return {cell.norm: cell for cell in cells if cell.batch == batch}


def _rivals(small: dict[str, Cell], subject: str) -> list[str]:
    """Return SyncBN, if it ran, and the best of the other normalizers; if there are none, no normalization."""
    rivals = ["syncbn"] if "syncbn" in small and subject != "syncbn" else []
    errors = {
        norm: cell.test_error.mean
        for norm, cell in small.items()
        if cell.test_error is not None and norm not in (subject, "syncbn", "none")
    }
    rivals += sorted(errors, key=errors.__getitem__)[:1]
    return rivals or [norm for norm in small if norm == "none" and norm != subject]


def _compare(cells: dict[str, Cell], subject: str, norms: list[str]) -> str:
    """Return a clause about the subject and its rivals at one batch size."""
    diverged = [_diverged(cells[norm]) for norm in (subject, *norms) if norm in cells and cells[norm].diverged]
    rivals = [(norm, error) for norm in norms if norm in cells and (error := cells[norm].test_error) is not None]
    own = cells[subject].test_error if subject in cells else None
    if own is None:
        results = [f"{_label(norm)} has {_percent(error)} test error" for norm, error in rivals]
    else:
        results = [_relate(subject, own, rivals)]
    return _join([*diverged, *results])


def _diverged(cell: Cell) -> str:
    return f"{_label(cell.norm)} diverged in {cell.diverged} of {cell.runs} run{'s' * (cell.runs > 1)}"


def _relate(subject: str, own: Interval, rivals: list[Rival]) -> str:
    if not rivals:
        return f"{_label(subject)} has {_percent(own)} test error"
    relations: dict[str, list[Rival]] = {"more than": [], "level with": [], "less than": []}
    for norm, error in rivals:
        if own.overlaps(error):
            relations["level with"].append((norm, error))
        else:
            relations["more than" if own.mean > error.mean else "less than"].append((norm, error))
    undecided = any(own.overlaps(error) is None for _, error in rivals)  # only numbers, no claim
    if undecided or len(relations["more than"]) == len(rivals):
        with_rivals = _join([f"{_percent(error)} with {_label(norm)}" for norm, error in rivals])
        return f"{_label(subject)} has {_percent(own)} test error against {with_rivals}"
    if len(relations["level with"]) == len(rivals):
        names = _join([_label(subject), *(_label(norm) for norm, _ in rivals)])
        numbers = _join([f"{100 * error.mean:.1f}" for error in (own, *(error for _, error in rivals))])
        return f"{names} are level ({numbers} % test error)"
    parts = [
        f"{relation} " + _join([f"{_label(norm)} ({_percent(error)})" for norm, error in group])
        for relation, group in relations.items()
        if group
    ]
    return f"{_label(subject)} has {_percent(own)} test error, " + ", ".join(parts)


def _label(norm: str) -> str:
    return "no normalization" if norm == "none" else NORMALIZERS[norm].label


def _percent(error: Interval) -> str:
    return f"{100 * error.mean:.1f} %"


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
