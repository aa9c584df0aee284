"""One kernel for the chapters of a model: none sees anything of those before it."""

from __future__ import annotations

import json
import os
import signal

import nbformat
import pytest

import trivial
from ovectors import batch, notebooks, results, runs
from tiny_models import save_tiny

pytestmark = pytest.mark.kernel

MODEL = "a-model"


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    (made / "chapters" / "01_first.ipynb").unlink()
    return made


def run(project, *chapters: str, keep_going: bool = True, at_once: int = 1) -> list[batch.Outcome]:
    chosen = notebooks.choose_chapters(chapters)
    jobs = batch.plan([str(project / MODEL)], chosen, {}, force=True)
    return batch.run_jobs(jobs, keep_going=keep_going, at_once=at_once, report=lambda event: None)


def saved(outcome: batch.Outcome, name: str = "seen"):
    assert outcome.kind == "done", outcome.reason
    return results.load_json(outcome.job.place.results, name)


PROCESS = "import os; run.save_json('seen', os.getpid())"

LIBRARIES = """
import logging, os, random, sys, threading, warnings
import matplotlib, matplotlib.pyplot as plt, numpy as np, pandas as pd, seaborn, sympy, torch
sys.path.insert(0, os.environ["OVECTORS_ROOT"])
import beside
"""

MESS = (
    LIBRARIES
    + """
import pathlib, subprocess, signal
leftover = 1
plt.figure(); plt.plot([1, 2])
plt.rcParams["lines.linewidth"] = 9
warnings.filterwarnings("ignore")
warnings.showwarning = print
np.random.seed(1); random.seed(1); torch.manual_seed(1)
np.seterr(all="raise"); np.set_printoptions(precision=1)
pd.set_option("display.max_rows", 3)
torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)
torch.set_default_device("meta"); torch.use_deterministic_algorithms(True)
logging.basicConfig(level=logging.DEBUG); logging.disable(logging.CRITICAL)
os.environ["OVECTORS_SLOW"] = "1"; del os.environ["HOME"]
os.chdir("/"); sys.argv.append("more")
beside.value = 2
subprocess.Popen(["sleep", "300"])
ip = get_ipython()
ip.events.register("pre_run_cell", lambda info: print("called"))
ip.display_formatter.formatters["text/plain"].for_type(dict, lambda *a: print("own"))
run.save_json("seen", os.getpid())
"""
)

LOOK = (
    LIBRARIES
    + """
import psutil
plt.plot([1]); plt.close()  # what is set when the first figure is made stays
pid = os.getpid()
seen = {
    "names": sorted(name for name in globals() if not name.startswith("_")),
    "inputs": len(In), "outputs": len(Out),
    "figures": plt.get_fignums(),
    "style": {k: str(v) for k, v in matplotlib.rcParams.items()},
    "filters": sorted(map(str, warnings.filters)),
    "warned": warnings.showwarning.__module__,
    "torch settings": [str(torch.get_default_dtype()), torch.is_grad_enabled(),
                       str(torch.get_default_device()),
                       torch.are_deterministic_algorithms_enabled()],
    "errors": np.geterr(), "printing": {k: str(v) for k, v in np.get_printoptions().items()},
    "pandas": pd.get_option("display.max_rows"),
    "log": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
    "environment": {k: v for k, v in os.environ.items() if "OUTPUT" not in k and "TABLES" not in k
                    and k not in ("JPY_PARENT_PID", "IPYTHONDIR", "TMPDIR")},
    "folder": os.getcwd(), "path": sys.path, "arguments": sys.argv[:1] + sys.argv[3:],
    "beside": beside.value,
    "children": len(psutil.Process().children()),
    "events": sum(f.__module__ == "__main__"
                  for fs in get_ipython().events.callbacks.values() for f in fs),
    "formatted": get_ipython().display_formatter.format({})[0]["text/plain"],
}
run.save_json("seen", seen)
run.save_json("pid", pid)
run.save_json("drawn", [float(np.random.rand()), random.random(), float(torch.rand(1))])
"""
)


def test_a_chapter_sees_nothing_of_the_one_before_it(project):
    (project / "beside.py").write_text("value = 1")
    trivial.write_chapter(project, "01_mess", extra=MESS.strip())
    trivial.write_chapter(project, "02_look", extra=LOOK.strip())
    (alone,) = run(project, "2")
    expected = saved(alone)
    notebook = alone.job.place.notebook
    counts = [cell.get("execution_count") for cell in nbformat.read(notebook, 4).cells]
    mess, look = run(project)
    seen = saved(look)
    assert saved(look, "pid") == saved(mess), "it was not the same kernel"
    assert {k: v for k, v in seen.items() if v != expected[k]} == {}
    assert [cell.get("execution_count") for cell in nbformat.read(notebook, 4).cells] == counts
    seeded = (0.417022004702574, 0.13436424411240122, 0.7576315999031067)  # with 1
    assert all(abs(a - b) > 1e-6 for a, b in zip(saved(look, "drawn"), seeded, strict=True))


LASTING = {
    "a limit": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "a thread": "import threading, time\n"
    "threading.Thread(target=lambda: time.sleep(60), daemon=True).start()",
    "an extension": "get_ipython().run_line_magic('load_ext', 'autoreload')",
    "a backend": "import matplotlib.pyplot as plt; plt.switch_backend('agg')",
}


@pytest.mark.parametrize("lasting", LASTING)
def test_a_kernel_that_cannot_be_made_new_is_replaced(project, lasting):
    if lasting == "a limit":
        import resource

        if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            pytest.skip("the limit is what it would be set to")
    trivial.write_chapter(project, "01_lasting", extra=f"{LASTING[lasting]}\n{PROCESS}")
    trivial.write_chapter(project, "02_next", extra=PROCESS)
    trivial.write_chapter(project, "03_last", extra=PROCESS)
    first, second, third = (saved(outcome) for outcome in run(project))
    assert first != second == third


DEATHS = {
    "raises": "1 / 0",
    "is killed": "import os; os.kill(os.getpid(), 9)",
    "has no memory": "import resource\n"
    "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); bytearray(8 << 30)",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_chapter_that_fails_fails_alone(project, death):
    for name, extra in {
        "01_before": PROCESS,
        "02_fails": DEATHS[death],
        "03_next": PROCESS,
        "04_last": PROCESS,
    }.items():
        trivial.write_chapter(project, name, extra=extra)
    before, failed, after, last = run(project)
    assert failed.kind == "failed"
    assert saved(before) != saved(after) == saved(last)


def test_a_kernel_that_dies_between_two_chapters_is_replaced(project):
    trivial.write_chapter(project, "01_first", extra=PROCESS)
    trivial.write_chapter(project, "02_second", extra=PROCESS)
    jobs = batch.plan([str(project / MODEL)], notebooks.find_chapters(), {})
    pids = []

    def kill_between(event: batch.Event) -> None:
        if event.kind == "done":
            pids.append(saved(event.outcome))
            if len(pids) == 1:
                os.kill(pids[0], signal.SIGKILL)

    outcomes = batch.run_jobs(jobs, report=kill_between)
    assert [outcome.kind for outcome in outcomes] == ["done", "done"] and pids[0] != pids[1]


def test_the_library_is_imported_anew_when_it_was_edited_meanwhile(project, monkeypatch):
    from ovectors import reach

    trivial.write_chapter(project, "01_first", extra=PROCESS)
    trivial.write_chapter(project, "02_second", extra=PROCESS)
    jobs = batch.plan([str(project / MODEL)], notebooks.find_chapters(), {})
    versions = iter([("old",), ("new",), ("new",)])
    monkeypatch.setattr(reach, "sources_of", lambda package: next(versions))
    first, second = batch.run_jobs(jobs, report=lambda event: None)
    assert saved(first) != saved(second)


MEASURES = """
import os, sys
sys.path.insert(0, os.environ["OVECTORS_ROOT"])
import matplotlib.pyplot as plt
from logits import logits
from ovectors.figures.style import panels
from ovectors.store import Store
store = Store(model)
table = store.table(logits, seed={seed})
figure, axes = panels(1)
axes[0].plot(table["value"][:50])
run.save("table", table, about="")
run.save_figure("figure", figure)
"""
LOGITS = """
import pandas as pd
from ovectors.interventions import next_token_logits


def logits(model, *, seed):
    values = next_token_logits(model, [(5, 17, 99, seed), (7, 7, 12)]).numpy().ravel()
    return pd.DataFrame({"value": values})
"""


def test_weights_are_loaded_once_and_the_results_are_those_of_kernels_apart(project):
    save_tiny("gptj", project / MODEL)
    (project / "logits.py").write_text(LOGITS)
    names = ["01_one", "02_two", "03_three"]
    for seed, name in enumerate(names):
        last = "manifest = run.finish(provenance=store.provenance)"
        trivial.write_chapter(project, name, extra=MEASURES.format(seed=seed).strip(), last=last)
    together = run(project)
    folder = together[0].job.place.folder
    loads = [runs.read_sidecar(outcome.job.place).weights_loaded for outcome in together]
    assert loads == [one.loads for one in together] == [1, 0, 0]
    whole = {name: trivial.files_below(folder / name) for name in names}
    assert {"table.parquet", "figure.svg", "figure.png"} <= whole["03_three"].keys()
    for path in (folder / ".store").iterdir():
        path.unlink()
    apart = [outcome for name in names for outcome in run(project, name)]
    assert [one.loads for one in apart] == [1, 1, 1]
    assert {name: trivial.files_below(folder / name) for name in names} == whole
    assert [one.loads for one in run(project)] == [0, 0, 0]  # every table is known


def test_several_workers_share_a_small_model(project):
    for number in range(1, 5):
        trivial.write_chapter(
            project, f"{number:02}_one", extra=f"{PROCESS}; import time\ntime.sleep(1)"
        )
    pids = {saved(outcome) for outcome in run(project, at_once=2)}
    assert len(pids) == 2


def test_peak_memory_is_that_of_the_chapter(project):
    big = "data = bytearray(400_000_000); data[::4096] = b'1' * len(data[::4096]); del data"
    trivial.write_chapter(project, "01_big", extra=f"{big}\n{PROCESS}")
    trivial.write_chapter(project, "02_small", extra=PROCESS)
    first, second = run(project)
    assert saved(first) == saved(second)
    peaks = [runs.read_sidecar(one.job.place).peak_memory_bytes for one in (first, second)]
    assert peaks[0] > 400_000_000 and peaks[0] - peaks[1] > 300_000_000
    assert json.loads(first.job.place.sidecar.read_text())["peak_memory_bytes"] == peaks[0]
