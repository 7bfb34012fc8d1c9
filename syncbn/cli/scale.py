"""``syncbn scale``: predicts the cost of synchronization on many ranks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from syncbn._core.checks import REDUCTIONS
from syncbn.cli.errors import CommandError, UsageError
from syncbn.cli.measuring import MAX_BATCH, MeasuringCommand, check_local_batches, check_memory, measured
from syncbn.cli.parser import add_json, add_ranks, comma_list, directory, integer, number
from syncbn.comm import Communicator, SerialComm
from syncbn.experiments.bn_layers import NETWORKS
from syncbn.experiments.scale.algorithms import as_mpich
from syncbn.experiments.scale.computing import network_milliseconds, resnet50_milliseconds
from syncbn.experiments.scale.config import MAX_RANKS, ScaleConfig
from syncbn.experiments.scale.figure import save_figure
from syncbn.experiments.scale.fit import fit_call, fit_machine
from syncbn.experiments.scale.links import Hockney, LogGP
from syncbn.experiments.scale.measurement import CALLS, ROUNDS, Measurement, measure
from syncbn.experiments.scale.model import Machine
from syncbn.experiments.scale.published import PUBLISHED
from syncbn.experiments.scale.report import ScaleReport
from syncbn.experiments.scale.skew import MeasuredSkew, NormalSkew, Skew

MAX_CHANNELS = 1_000_000

DESCRIPTION = """\
Predict the cost of synchronization in a training step on up to 32,767 ranks, with recursive
doubling, Rabenseifner's algorithm and a ring, for all ranks and for groups of ranks.

The model is α-β or LogGP with ranks that arrive late (docs: Scale). Its parameters are fitted to
allreduces on this machine, given as options, or those of a published machine (--preset).
"""

EPILOG = (
    "presets:\n"
    + "".join(f"  {name:<23}{entry.title}\n" for name, entry in PUBLISHED.items())
    + """
examples:
  syncbn scale --ranks 2
  syncbn scale --preset lassen --step-ms 900 --groups 8,64 --output scale
  syncbn scale --alpha 1.5 --bandwidth 12 --skew 20 --channels 64,64,128,256 --step-ms 50
"""
)


def add_parser(subparsers: Any) -> None:
    """Add this command to the subcommands."""
    parser = subparsers.add_parser(
        "scale", help="predict the cost of synchronization on many ranks", description=DESCRIPTION, epilog=EPILOG
    )
    default = ScaleConfig()
    add = parser.add_argument
    add_ranks(parser, default=2)
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--network", default=default.network, metavar="NAME",
        help=f"{', '.join(NETWORKS)} (default: %(default)s)")  # fmt: skip
    layers.add_argument("--channels", type=comma_list(integer(MAX_CHANNELS)), default=(), metavar="LIST",
        help="channels of every layer")  # fmt: skip
    add(
        "--batch",
        type=integer(MAX_BATCH),
        default=default.batch,
        metavar="N",
        help="samples per rank (default: %(default)s)",
    )
    add("--reduction", default=default.reduction, metavar="NAME", help=f"{' or '.join(REDUCTIONS)} (default: exact)")
    link = parser.add_mutually_exclusive_group()
    link.add_argument("--preset", metavar="NAME", help="a published machine (listed below)")
    link.add_argument("--alpha", type=number(0), metavar="US", help="α: latency of a message in microseconds")
    link.add_argument(
        "--loggp", type=comma_list(number(0)), metavar="L,o,g,G", help="LogGP: µs, µs, µs and ns per byte"
    )
    add("--bandwidth", type=number(1e-9), metavar="GB/S", help="1/β, with --alpha")
    add("--software", type=number(0), metavar="US", help="κ: software overhead of a message in microseconds")
    add("--skew", metavar="US",
        help="σ of the delays of ranks in µs, or 'measured' for the distribution measured here")  # fmt: skip
    add("--step-ms", type=number(1e-9), metavar="MS",
        help="time of the rest of a training step (default: measured; ResNet-50: matrix products and BN)")  # fmt: skip
    add("--at", type=comma_list(int), default=default.at, metavar="LIST",
        help=f"numbers of ranks to predict (default: {','.join(map(str, default.at))})")  # fmt: skip
    add("--groups", type=comma_list(integer(MAX_RANKS)), default=default.groups, metavar="LIST",
        help=f"group sizes to predict (default: {','.join(map(str, default.groups))})")  # fmt: skip
    add("--output", type=directory, metavar="DIR", help="directory for scale.txt, scale.json and scale.png")
    add_json(parser)
    parser.set_defaults(command=ScaleCommand, prog=parser.prog)


class ScaleCommand(MeasuringCommand):
    """The scale command: measures unless parameters are given, predicts and prints."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.given: Hockney | LogGP | None = _given_link(options)
        if self.given is not None or options.preset is not None:
            options.ranks_default = 1
        super().__init__(options)
        names = {name for name, entry in ScaleConfig.__dataclass_fields__.items() if entry.init}
        try:
            self.config: ScaleConfig = ScaleConfig(**{name: getattr(options, name) for name in names})
        except ValueError as error:
            raise UsageError(str(error)) from error
        if options.preset not in (None, *PUBLISHED):
            raise UsageError(f"unknown preset {options.preset!r} (choose from {', '.join(PUBLISHED)})")
        if self.ranks == 1 and self.given is None and options.preset is None:
            raise UsageError("a single rank sends no messages: use --ranks 2 or more, --preset, --alpha or --loggp")
        if self.ranks > 1 or (options.step_ms is None and not options.channels):
            check_memory(self.config.shapes, self.ranks)
            check_local_batches(self.config.network, self.config.shapes)
        if options.skew == "measured" and not self.config.shapes:
            raise UsageError("argument --skew: delays are measured with the layers of a --network, not of --channels")
        self.sigma: float | None = _sigma(options.skew, self.ranks)

    def launch(self, arguments: Sequence[str]) -> int:  # noqa: ARG002 (the worker processes get settings instead)
        """Measure on 2, 3, … ranks up to the requested number, each in new processes."""
        settings = {"shapes": list(self.config.shapes.items()), "rounds": ROUNDS, "calls": CALLS}
        counts = range(2, self.ranks + 1)
        with self.stages(len(counts)).shown() as stages:
            found = []
            for count in counts:
                stages.begin(f"measuring {count} ranks")
                found.append(Measurement.from_json(measured("ranks", settings, count)))
        return self._finish(found)

    def run(self, comm: Communicator) -> int:
        """Measure on the ranks of ``comm`` and print on rank 0. Collective."""
        found = [measure(comm, self.config.shapes)] if comm.size > 1 else []
        return self._finish(found) if comm.rank == 0 else 0

    def _finish(self, measurements: list[Measurement]) -> int:
        fitted = _fit(measurements, self.config.widths)
        report = ScaleReport(
            self.config,
            *self._machine(fitted, measurements),
            measurements,
            fitted,
            PUBLISHED.get(self.options.preset),
            *self._computing(measurements),
            self.load,
        )
        preset = self.options.preset
        return self.finish(report, f"scale-{preset}" if preset else "scale", save_figure)

    def _machine(self, fitted: Machine | None, measurements: Sequence[Measurement]) -> tuple[Machine, str]:
        options = self.options
        if options.preset is not None:
            machine, origin = PUBLISHED[options.preset].machine(), PUBLISHED[options.preset].title
        elif self.given is not None:
            machine, origin = Machine(self.given), "given"
        elif fitted is not None:
            counts = ", ".join(str(measurement.ranks) for measurement in _used(measurements))
            machine, origin = fitted, f"fitted to allreduces on {counts} ranks of this machine"
        else:
            raise CommandError("there are neither measurements nor parameters of a network")
        if options.software is not None:
            machine = replace(machine, software=options.software)
        skew = self._skew(measurements)
        if skew is not None:
            machine = replace(machine, skew=skew)
        return machine, origin

    def _skew(self, measurements: Sequence[Measurement]) -> Skew | None:
        if self.options.skew == "measured":
            return MeasuredSkew(_least_disturbed(measurements).delays)
        return None if self.sigma is None else NormalSkew(self.sigma)

    def _computing(self, measurements: Sequence[Measurement]) -> tuple[float | None, str]:
        """Return the milliseconds of the rest of a step and the origin of this number."""
        network, batch = self.config.network, self.config.batch
        if self.options.step_ms is not None:
            return self.options.step_ms, "given"
        if self.config.channels:
            return None, "unknown"
        if network in ("mlp", "resnet"):
            return network_milliseconds(network, batch), f"measured here, {batch} samples"  # type: ignore[arg-type]
        measurement = _least_disturbed(measurements) if measurements else measure(SerialComm(), self.config.shapes)
        origin = f"matrix products and BN alone at the speed here, {batch} samples"
        return resnet50_milliseconds(batch, measurement), origin


def _least_disturbed(measurements: Sequence[Measurement]) -> Measurement:
    """Return the measurement with the most ranks of which none share a core, otherwise that with the fewest."""
    undisturbed = [m for m in measurements if not m.oversubscribed]
    return undisturbed[-1] if undisturbed else measurements[0]


def _used(measurements: Sequence[Measurement]) -> Sequence[Measurement]:
    """Return the measurements that a machine is fitted to."""
    return [m for m in measurements if not m.oversubscribed] or measurements


def _fit(measurements: Sequence[Measurement], channels: Sequence[int]) -> Machine | None:
    if not measurements:
        return None
    used = _used(measurements)
    gamma = min(m.gamma for m in used)
    machine = fit_machine([timing for m in used for timing in m.timings], as_mpich, gamma)
    best = _least_disturbed(measurements)
    call = fit_call(best.layers["one_rank"], best.layers["local"], channels, machine.software) if best.layers else 0.0
    return replace(machine, skew=NormalSkew(best.sigma), call=call)


def _given_link(options: argparse.Namespace) -> Hockney | LogGP | None:
    if (options.alpha is None) != (options.bandwidth is None):
        raise UsageError("arguments --alpha and --bandwidth: give both or none, and none with --preset")
    if options.alpha is not None:
        return Hockney(options.alpha, 1e-3 / options.bandwidth)
    if options.loggp is None:
        return None
    if len(options.loggp) != 4:
        raise UsageError(f"argument --loggp: must be four numbers L,o,g,G, got {len(options.loggp)}")
    latency, overhead, gap, gap_per_byte = options.loggp
    return LogGP(latency, overhead, gap, gap_per_byte / 1e3)


def _sigma(text: str | None, ranks: int) -> float | None:
    if text is None:
        return None
    if text == "measured":
        if ranks == 1:
            raise UsageError("argument --skew: delays are measured on --ranks 2 or more")
        return None
    try:
        return number(0)(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"argument --skew: must be microseconds or 'measured', got {text!r}") from error
