"""python -m benches [FIGURE ...]: the figures that the README states, each beside its yardstick."""

import argparse
import importlib
import json

from benches import machine

FIGURES = (
    "wake",
    "latch",
    "crowd",
    "gateway",
    "peers",
    "policy",
    "model",
    "gil",
    "syscalls",
    "instructions",
    "counted",
    "gate_power",
    "codec",
    "limiter",
    "walk",
    "motion",
    "lockstep",
    "world",
    "environment",
    "vector",
    "batch",
    "memory",
    "cluster",
    "scale",
    "skew",
    "cost",
    "camera",
    "recorded",
    "recorder",
    "reading",
    "view",
    "page",
    "remote",
    "observers",
    "worker",
    "guard",
    "servos",
    "attribution",
    "pace",
)


def main() -> None:
    """Run the figures that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument(
        "--pairs", type=int, default=60, help="rounds of yardstick, ours, yardstick"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows, 10 rounds")
    parser.add_argument("--smoke", action="store_true", help="each once, for a moment: no figures")
    parser.add_argument("--record", action="store_true", help="append to benches/history.jsonl")
    parser.add_argument("--no-realtime", action="store_true", help="ordinary priority")
    asked = parser.parse_args()
    unknown = set(asked.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    if asked.smoke and asked.record:
        parser.error("--smoke gives no figures to record")
    rounds = 1 if asked.smoke else 10 if asked.quick else asked.pairs
    is_quick = asked.quick or asked.smoke
    options = machine.Options(
        rounds, not asked.no_realtime, asked.record, is_quick, smoke=asked.smoke
    )
    machine.refuse_without_realtime(options)
    about = machine.facts(options)
    print(json.dumps(about))
    measured = []
    for figure in asked.figures or FIGURES:
        print(f"\n==== {figure}")
        results = importlib.import_module(f"benches.{figure}").run(options)
        measured += [{"figure": figure, **about, **result} for result in results]
        if options.record:
            machine.record(options, figure, results)
    if not asked.figures and not asked.smoke:
        from benches import pictures  # takes a while to import

        print(f"\npictures: {pictures.draw(pictures.history() + measured * (not options.record))}")


if __name__ == "__main__":
    main()
