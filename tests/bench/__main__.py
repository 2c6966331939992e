"""The benchmarks: `python tests/bench [mutations|start|waiting|growth|replicas] --help`."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import mutations, report
from bench.processes import Failed, read_peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    _add_mutations(kinds.add_parser("mutations", help="the CPU of a mutation, and of its stages"))
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


if __name__ == "__main__":
    main()
