"""The benchmarks: `python tests/bench [mutations|parts|start|growth|replicas] --help`."""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import footprint, mutations, report
from bench.processes import Failed, read_peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    _add_mutations(kinds.add_parser("mutations", help="the CPU of a mutation, and of its stages"))
    _add_parts(kinds.add_parser("parts", help="the CPU of authentication, and of log and metrics"))
    _add_start(kinds.add_parser("start", help="the time of the start, and the memory"))
    _add_growth(kinds.add_parser("growth", help="what a million records change"))
    _add_replicas(kinds.add_parser("replicas", help="several gateways on one PostgreSQL"))
    arguments = parser.parse_args()
    # A ledger needs a disk, and the usual temporary folder may be in memory.
    with TemporaryDirectory(prefix="bench-", dir=Path.cwd()) as folder:
        try:
            arguments.run(arguments, Path(folder))
        except (mutations.Nonsense, Failed) as failure:
            sys.exit(f"The benchmark failed: {failure}")


def _add_mutations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in-flight", default="1,16,64,256", metavar="N,...")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts; default: 5")
    parser.add_argument("--seconds", type=float, default=3, help="of each run; default: 3")
    # Servers with a compiler need some seconds until they are as fast as they get.
    parser.add_argument("--warm-up", type=float, default=5, help="seconds; default: 5")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="TOML: other servers")
    parser.add_argument(
        "--also", type=Path, nargs="*", default=[], metavar="PROGRAM", help="other installations"
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="for bench.md and bench.svg")
    parser.set_defaults(run=_mutations)


def _mutations(arguments: argparse.Namespace, folder: Path) -> None:
    in_flight = [int(number) for number in arguments.in_flight.split(",")]
    peers = read_peers(arguments.peers) if arguments.peers else []
    if arguments.into is not None:
        # A folder that cannot be made is reported now, and not after ten minutes.
        arguments.into.mkdir(parents=True, exist_ok=True)
    result = mutations.compare(
        folder,
        peers,
        arguments.also,
        in_flight,
        arguments.rounds,
        arguments.seconds,
        arguments.warm_up,
    )
    print(report.table(result))
    if arguments.into is not None:
        (arguments.into / "bench.md").write_text(report.table(result))
        (arguments.into / "bench.svg").write_text(report.plot(result.costs))


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mutations", type=int, default=50_000, help="default: 50000")
    parser.set_defaults(run=_measure_parts)


def _measure_parts(arguments: argparse.Namespace, folder: Path) -> None:
    from bench import parts  # noqa: PLC0415 - it imports the gateway, and others only start it

    costs = asyncio.run(parts.measure(folder, arguments.mutations))
    _print(f"{part:<40} {microseconds:6.1f} µs" for part, microseconds in costs.items())


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--starts", type=int, default=5, help="the median counts; default: 5")
    parser.add_argument("--calls", type=int, default=1000, help="that wait; default: 1000")
    parser.add_argument("--seconds", type=float, default=10, help="of the wait; default: 10")
    parser.set_defaults(
        run=lambda chosen, folder: print(
            footprint.measure(folder, chosen.starts, chosen.calls, chosen.seconds)
        )
    )


def _add_growth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ledger", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--rows", type=int, default=1_000_000, help="records; default: 1000000")
    _add_load(parser)
    parser.set_defaults(run=_grow)


def _grow(arguments: argparse.Namespace, folder: Path) -> None:
    from bench.growth import grow  # noqa: PLC0415 - needs the extra `dev`, and others do not

    kind, rows = arguments.ledger, arguments.rows
    _print(grow(folder, kind, rows, arguments.in_flight, arguments.seconds))


def _add_replicas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gateways", type=int, default=4, help="at the end; default: 4")
    _add_load(parser)
    parser.set_defaults(run=_replicate)


def _replicate(arguments: argparse.Namespace, folder: Path) -> None:
    from bench.growth import replicate  # noqa: PLC0415 - as above

    _print(replicate(folder, arguments.gateways, arguments.in_flight, arguments.seconds))


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--seconds", type=float, default=5, help="of each run; default: 5")


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
