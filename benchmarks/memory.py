"""Peak memory above the weights, in a process of its own: `python -m benchmarks.memory`.

On Linux the kernel's own high-water mark is reset after the weights are in and read at the end;
elsewhere a thread samples. On a GPU it is the allocator's peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from benchmarks import shapes, timing
from benchmarks.contestants import ours
from benchmarks.questions import Question
from ovectors import paths
from ovectors.encoding import EncodedPrompts
from ovectors.interventions import Ablate
from ovectors.models import LanguageModel
from ovectors.sweeps import sweep

_RESET_PEAK = "5"  # what proc(5) has to be told in clear_refs
_EVERY = 0.005  # seconds between samples


def sweep_last(model: LanguageModel, encoded: EncodedPrompts) -> None:
    """The start-layer sweep at the last position, every start layer."""
    _swept(model, encoded, "last", tuple(range(model.n_layers)))


def sweep_all(model: LanguageModel, encoded: EncodedPrompts) -> None:
    """The same at all positions, from the first, a middle and the last layer."""
    starts = sorted({0, model.n_layers // 2, model.n_layers - 1})
    _swept(model, encoded, "all", tuple(starts))


def _swept(
    model: LanguageModel, encoded: EncodedPrompts, positions: str, starts: tuple[int, ...]
) -> None:
    vector = torch.ones(model.d_model)
    question = Question(encoded=encoded, vector=vector, positions=positions, starts=starts)
    with ours.fast(model, rows=0) as ask:
        ask(question)


def ablation(model: LanguageModel, encoded: EncodedPrompts) -> None:
    """FFNs removed from the top down at every position: one, half of them, all."""
    layers = range(model.n_layers)
    points = [
        [Ablate(layers=layers[len(layers) - removed :], positions="all")]
        for removed in sorted({1, max(1, model.n_layers // 2), model.n_layers})
    ]
    sweep(model, encoded, points, wanted={"answer": encoded.answer_ids})


def stages(model: LanguageModel, encoded: EncodedPrompts) -> None:
    """The experiment of chapter 1."""
    relation = encoded.prompts[0].relation
    everything = len(encoded) == len(shapes.prompts(model, relation=relation))
    ours.stages(model, relation, n_items=0 if everything else len(encoded))


EXPERIMENTS: dict[str, Callable[[LanguageModel, EncodedPrompts], None]] = {
    "sweep, last position": sweep_last,
    "sweep, all positions": sweep_all,
    "ablation from the top down": ablation,
    "stages": stages,
}


ENOUGH = 1000  # prompts, after which a time per prompt is an average already: no more repeats


@contextmanager
def peak_above(device: str) -> Iterator[list[int]]:
    """Appends to the list, at the end, the most bytes that were held above those held before."""
    peak: list[int] = []
    shapes.empty_cache(device)
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.append(torch.cuda.max_memory_allocated() - before)
        return
    before = psutil.Process().memory_info().rss
    with _high_water() as highest:
        yield peak
    peak.append(max(0, highest() - before))


@contextmanager
def _high_water() -> Iterator[Callable[[], int]]:
    """Gives a function that tells the most this process has held since the block began."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        with _sampled() as highest:
            yield highest
        return
    yield lambda: _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@contextmanager
def _sampled() -> Iterator[Callable[[], int]]:
    process, done, seen = psutil.Process(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(_EVERY):
            seen.append(max(seen[-1], process.memory_info().rss))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(seen[-1], process.memory_info().rss)
    finally:
        done.set()
        thread.join()


def measure(
    shape: str, experiment: str, *, relation: str, prompts: int, repeats: int, device: str
) -> dict:
    """Peak above the weights and seconds of each repeat, here in this process."""
    model = shapes.build(shape, device=device)
    encoded = shapes.prompts(model, count=prompts, relation=relation)
    run = EXPERIMENTS[experiment]
    run(model, encoded.select([0, 1]))  # libraries that load at the first use are no experiment's
    times = max(1, min(repeats, ENOUGH // len(encoded)))
    with peak_above(device) as peak:
        taken = [timing.seconds(lambda: run(model, encoded), device=device) for _ in range(times)]
    return {
        "shape": shape,
        "experiment": experiment,
        "prompts": len(encoded),
        "seconds": taken,
        "peak_bytes": peak[0],
        "weight_bytes": shapes.weight_bytes(model),
    }


def in_a_new_process(
    shape: str,
    experiment: str,
    *,
    relation: str = shapes.RELATION,
    prompts: int = 0,
    repeats: int = 1,
    device: str = "cpu",
    threads: int = 0,
) -> dict:
    """The same, in a process that has done nothing else."""
    command = [sys.executable, "-m", "benchmarks.memory", shape, experiment]
    command += ["--relation", relation, "--prompts", str(prompts), "--repeats", str(repeats)]
    command += ["--device", device, "--threads", str(threads or torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[2:])} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=list(shapes.SHAPES))
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--relation", default=shapes.RELATION)
    parser.add_argument("--prompts", type=int, default=0, help="how many; 0 for all")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = vars(parser.parse_args())
    torch.set_num_threads(asked.pop("threads"))
    print(json.dumps(measure(asked.pop("shape"), asked.pop("experiment"), **asked)))


if __name__ == "__main__":
    main()
