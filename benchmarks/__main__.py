"""`python -m benchmarks`: compare numbers, time pairs, write JSON and the README's table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks import plan, report, run
from benchmarks.agreement import Disagreement
from ovectors import results

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
REPEATS = 6  # three in either order


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 0, or 1 where contestants disagree."""
    asked = _parser().parse_args(arguments)
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"device {asked.device!r} was asked for, but no CUDA GPU is here", file=sys.stderr)
        return 2
    if asked.threads:
        torch.set_num_threads(asked.threads)
    settings = run.Settings(
        repeats=asked.repeats or (1 if asked.quick else REPEATS),
        device=asked.device,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    try:
        found = run.run(_chosen(asked), settings)
    except Disagreement as problem:
        print(f"nothing is reported: {problem}", file=sys.stderr)
        return 1
    shown = report.markdown(found)
    print(shown)
    if not (asked.quick or asked.shapes):
        keep(found, shown, asked.device)
    return 0


def keep(
    found: dict, shown: str, device: str, *, path: Path = RESULTS, readme: Path = README
) -> None:
    """Write the run beside an earlier one on another kind of device, and its table."""
    kind = device.partition(":")[0]
    runs = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else {}
    results.write_json(path, {"schema": 1, "runs": {**runs, kind: found}})
    text = report.replaced(readme.read_text("utf-8"), kind, shown)
    with results.atomic_path(readme) as temporary:
        temporary.write_text(text, "utf-8")


def _chosen(asked: argparse.Namespace) -> list[plan.Plan]:
    """The plans of this device, or those of the shapes that were named."""
    on_gpu = asked.device.startswith("cuda")
    if asked.quick:
        return list(plan.QUICK_GPU + plan.QUICK if on_gpu else plan.QUICK)
    plans = plan.GPU if on_gpu else plan.CPU
    return [one for one in plans if not asked.shapes or one.shape in asked.shapes]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="default: as PyTorch chooses")
    parser.add_argument("--repeats", type=int, default=0, help=f"pairs of each ratio ({REPEATS})")
    parser.add_argument("--shapes", nargs="+", help="these models alone; nothing is written")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny random models, one pair: agreement counts, times do not; nothing is written",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
