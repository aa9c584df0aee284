"""The command line: every bad input is one clear line and its exit code, nothing half-written."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trivial
from ovectors import architectures, batch, cli
from tiny_models import save_tiny

pytestmark = pytest.mark.kernel

READ_CSV = """
from ovectors.relations import load_relation
relation = load_relation("mine", path=note)
"""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny GPT-2 of random weights, as a user would have it in a folder."""
    return save_tiny("gpt2", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def project(tmp_path, tiny_folder):
    root = trivial.make_project(tmp_path / "project")
    shutil.copytree(tiny_folder, root / "tiny")
    return root


@pytest.fixture
def complaint(project, monkeypatch, capsys):
    """Runs a command in this process; gives its one line after checking exit code 2.

    It must have started nothing, unless `started`, and written no result.
    """
    trivial.enter(project, monkeypatch, check_models=True)

    def run(*arguments: str, started: bool = False) -> str:
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        said = trivial.one_line(subprocess.CompletedProcess(arguments, code, out, err), 2)
        assert started or trivial.executions(project) == []
        assert not [*(project / "book").rglob("*.json")] and "Traceback" not in out
        return said

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--model", "gtp2"], "unknown model 'gtp2', did you mean gpt2"),
        (["run", "--model", "./nowhere"], "there is no folder ./nowhere"),
        (["run", "--model", "./a-model/config.json"], "is a file: give the folder"),
        (["check", "gtp2"], "unknown model 'gtp2', did you mean gpt2"),
        (["evaluate", "gtp2"], "unknown model 'gtp2', did you mean gpt2"),
        (["train", "mini-2"], "no recipe named 'mini-2'"),
        (["run", "--chapter", "9"], "there is no chapter '9'; there are: 1 (first)"),
        (["run", "--chapter", "second"], "there is no chapter 'second'"),
        (["run", "-p", "n_itmes=3"], "chapter 1 has no parameter 'n_itmes'; it has: model, "),
        (["run", "-p", "n_items=many"], "n_items must be a whole number (like 2), not 'many'"),
        (["run", "-p", "ratio=wide"], "ratio must be a number (like 0.5), not 'wide'"),
        (["run", "-p", "n_items"], "a parameter is given as NAME=VALUE, not 'n_items'"),
        (["run", "-p", "model=gpt2"], "use --model"),
        (["run", "--n-items", "-1"], "Invalid value for '--n-items'"),
        (["run", "--n-items", "many"], "'many' is not a valid integer"),
        (["run", "--device", "gpu", "--model", "./tiny"], "has no parameter 'device'"),
        (["bake"], "No such command 'bake'"),
        (["run", "--fast"], "No such option"),
        ([], "Missing command"),
        (["book"], "cannot read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(complaint, arguments, said):
    if arguments[:2] == ["run", "-p"]:
        arguments = [*arguments, "--model", "./a-model"]
    assert said in complaint(*arguments)


def test_bad_input_ends_the_process_with_one_line_too(project):
    said = trivial.one_line(trivial.command(project, "run", "--model", "gtp2"), 2)
    assert said.startswith("ovectors: unknown model 'gtp2'")


def _without(project, *names):
    for name in names:
        (project / "tiny" / name).unlink()


def _unsupported(project):
    path = project / "tiny" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "t5"}))


def _truncated(project):
    path = project / "tiny" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50])


FOLDERS = {
    "no weights": (lambda p: _without(p, "model.safetensors"), "has no weights"),
    "tokenizer only": (
        lambda p: _without(p, "model.safetensors", "config.json"),
        "a tokenizer but no model",
    ),
    "model only": (lambda p: _without(p, "tokenizer.json"), "a model but no tokenizer"),
    "unsupported": (_unsupported, "architecture 't5', which is not supported"),
    "truncated": (_truncated, "is no whole safetensors file"),
}


@pytest.mark.parametrize("case", FOLDERS)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_folder_that_is_no_usable_model_is_refused(project, complaint, case, command):
    damage, said = FOLDERS[case]
    damage(project)
    arguments = ["run", "--model", "./tiny"] if command == "run" else ["check", "./tiny"]
    assert said in complaint(*arguments)


CSV_FILES = {
    "empty": ("", "mine.csv"),
    "broken": ("argument,answer\nPoland\n", "mine.csv"),
    "no columns": ("country,capital\nPoland,Warsaw\n", "mine.csv"),
    "twice": ("argument,answer\nPoland,Warsaw\nPoland,Krakow\n", "mine.csv"),
}


@pytest.mark.parametrize("case", CSV_FILES)
def test_a_broken_csv_is_one_line_that_names_the_file(project, complaint, case):
    content, said = CSV_FILES[case]
    (project / "mine.csv").write_text(content)
    trivial.write_chapter(project, extra=READ_CSV.strip())
    arguments = ["run", "--model", "./tiny", "-p", f"note={project / 'mine.csv'}"]
    assert said in complaint(*arguments, started=True)


def _cannot_override_permissions() -> None:
    """Take from root the right to write where permissions forbid it (CAP_DAC_OVERRIDE)."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_read_only_output_folder_is_one_line(project):
    runs = project / "book" / "runs"
    runs.mkdir()
    runs.chmod(0o500)
    probe = subprocess.run(
        ["touch", str(runs / "probe")], preexec_fn=_cannot_override_permissions, stderr=-3
    )
    if probe.returncode == 0:
        pytest.skip("permissions cannot be made to bind this user")
    arguments = ["run", "--model", "./tiny"]
    result = trivial.command(project, *arguments, preexec=_cannot_override_permissions)
    said = trivial.one_line(result, 2)
    assert f"cannot write to {runs}" in said and "Permission denied" in said


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command as a shell would, in the foreground of a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ovectors", *arguments],
        cwd=project,
        env=trivial.environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("deadly", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_is_one_line_and_leaves_nothing(project, deadly, code):
    extra = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(300)"
    trivial.write_chapter(project, extra=extra)
    process = start(project, "run", "--model", "./tiny")
    deadline = time.monotonic() + 120
    while not (project / "started").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, deadly)  # as a terminal does: to every process of the group
    out, err = process.communicate(timeout=60)
    trivial.one_line(subprocess.CompletedProcess([], process.returncode, out, err), code)
    assert [path for path in (project / "book" / "runs").rglob("*") if path.is_file()] == []
    (model,) = (project / "book" / "runs").iterdir()
    assert list(model.iterdir()) == []


def test_ctrl_c_that_a_library_swallowed_still_counts(project, monkeypatch, capsys):
    trivial.enter(project, monkeypatch)
    plan = batch.plan

    def swallowing(*arguments, **settings):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return plan(*arguments, **settings)

    monkeypatch.setattr(batch, "plan", swallowing)
    assert cli.main(["run", "--model", "./a-model"]) == 130
    assert "interrupted" in capsys.readouterr().err and trivial.executions(project) == []


def test_run_status_and_run_again(project):
    trivial.write_chapter(project, "02_second", extra="1 / 0")
    result = trivial.command(project, "run", "-m", "./tiny", "-c", "1", "--n-items", "3")
    assert (result.returncode, result.stderr) == (0, "")
    assert "[1/1] 01_first on tiny: running" in result.stdout and "1 run" in result.stdout
    result = trivial.command(project, "run", "-m", "./tiny", "-c", "first", "-p", "n_items=3")
    assert result.returncode == 0 and "1 already current" in result.stdout
    assert trivial.executions(project) == ["01_first 3"]
    result = trivial.command(project, "run", "-m", "./tiny", "-c", "2", "-c", "1", "--n-items", "3")
    said = trivial.one_line(result, 1)
    assert "02_second on tiny failed: ZeroDivisionError: division by zero" in said
    assert "1 already current, 1 failed" in result.stdout
    rows = [line.split() for line in trivial.command(project, "status").stdout.splitlines()]
    (first, second) = (row for row in rows if row and row[0].startswith("tiny-"))
    assert first[1:3] == ["01_first", "current"] and second[1:3] == ["02_second", "failed"]
    assert "ZeroDivisionError:" in second


def test_what_does_not_run_in_one_model_does_not_stop_another_with_keep_going(project, tiny_folder):
    shutil.copytree(tiny_folder, project / "other")
    extra = "assert model.endswith('other'), 'not this one'"
    trivial.write_chapter(project, extra=extra)
    both = ["run", "--model", "./tiny", "--model", "./other"]
    result = trivial.command(project, *both)
    assert result.returncode == 1 and "1 failed, 1 not started" in result.stdout
    result = trivial.command(project, *both, "--keep-going")
    assert result.returncode == 1 and "1 run, 1 failed" in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--fits"], ["status"]])
def test_looking_around_needs_no_torch(project, arguments):
    code = "import sys; from ovectors.cli import main; code = main(sys.argv[1:]);"
    code += "sys.exit(code or 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=project,
        env={**trivial.environment(project), "PATH": ""},  # no nvidia-smi: no GPU to ask torch for
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) > 2


def test_models_lists_the_catalogue(project):
    rows = trivial.command(project, "models").stdout.splitlines()
    (gpt2,) = (row.split() for row in rows if row.split()[:1] == ["gpt2"])
    assert gpt2[1:7] == ["124M", "12", "float32", "498", "MB", "openai-community/gpt2"]
    fitting = trivial.command(project, "models", "--fits").stdout.splitlines()
    (gpt2,) = (row.split() for row in fitting if row.split()[:1] == ["gpt2"])
    assert gpt2[1:4] == ["124M", "12", "float32"] and gpt2[5:8] == ["yes", "249", "MB"]
    assert len(fitting) == len(rows)  # a line a model, however much there is to say
    assert any(row.split()[:1] == ["mini-2m"] for row in rows)


def test_check_prints_the_figures_of_every_invariant(project):
    result = trivial.command(project, "check", "./tiny")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line for line in result.stdout.splitlines() if line.rstrip().endswith("yes")]
    assert len(rows) >= 5 and "tiny in float32" in result.stdout


def test_check_refuses_a_tampered_adapter(project, monkeypatch, capsys):
    right = architectures._FAMILIES["gpt2"]

    def wrong(config):
        return dataclasses.replace(right(config), ffn="attn")

    monkeypatch.setitem(architectures._FAMILIES, "gpt2", wrong)
    assert cli.main(["check", str(project / "tiny")]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert "fails its self-check at layer" in err and len(err.splitlines()) == 1
    assert " no" in out


def test_a_reader_that_has_gone_is_no_error(project):
    command = f"{sys.executable} -m ovectors models | head -n 1 > /dev/null"
    environment = trivial.environment(project)
    result = subprocess.run(
        ["bash", "-c", command], env=environment, cwd=project, capture_output=True, text=True
    )
    assert result.stderr == ""


# Many runs at once -------------------------------------------------------------------------------

ONE_OF_TWO = "import os, pathlib\nassert pathlib.Path(model).name == 'tiny', 'not this one'"


@pytest.fixture
def two(project, tiny_folder, monkeypatch):
    """Two models, the second of which every chapter refuses; in this process, unopened."""
    shutil.copytree(tiny_folder, project / "other")
    trivial.write_chapter(project, extra=ONE_OF_TWO)
    return trivial.enter(project, monkeypatch)


BOTH = ["--model", "./tiny", "--model", "./other"]


def test_jobs_at_once_end_as_one_by_one(two, capsys):
    for name in ("02_second", "03_third"):
        trivial.write_chapter(two, name)
    assert cli.main(["run", *BOTH, "--jobs", "4", "--keep-going"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "5 run, 1 failed" and err.count("\n") == 1
    assert sorted(trivial.executions(two)) == sorted(
        ["01_first 2"] * 2 + ["02_second 2"] * 2 + ["03_third 2"] * 2
    )
    assert [*(two / "book" / "runs").rglob(".*")] == []
    assert cli.main(["run", *BOTH, "--jobs", "4", "--keep-going"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 already current, 1 failed"


def test_only_failed_runs_what_failed_and_nothing_else(two, capsys):
    cli.main(["run", *BOTH, "--keep-going"])
    trivial.write_chapter(two)  # mended: now both are stale
    capsys.readouterr()
    assert cli.main(["run", *BOTH, "--only-failed"]) == 0
    out = capsys.readouterr().out
    assert "01_first on other: running" in out and "on tiny" not in out
    assert cli.main(["run", *BOTH, "--only-failed"]) == 0
    assert capsys.readouterr().out == "nothing to run\n"


def test_a_dry_run_says_why_and_writes_nothing(two, capsys):
    assert cli.main(["run", *BOTH, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] 01_first on tiny: would run (never run)",
        "[2/2] 01_first on other: would run (never run)",
    ]
    assert [*(two / "book").iterdir()] == [] and trivial.executions(two) == []
    cli.main(["run", "--model", "./tiny"])
    capsys.readouterr()
    before = trivial.files_below(two / "book")
    trivial.write_chapter(two, text="# Another", extra=ONE_OF_TWO)
    assert cli.main(["run", "--model", "./tiny", "--n-items", "3", "-n"]) == 0
    said = "[1/1] 01_first on tiny: would run (changed since: chapter, parameters)\n"
    assert capsys.readouterr().out == said
    assert cli.main(["run", "--model", "./tiny", "--force", "--dry-run", "--json-lines"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "would run"
    assert trivial.files_below(two / "book") == before


def test_json_lines_tell_every_start_and_end(two, capsys):
    assert cli.main(["run", *BOTH, "--keep-going", "--json-lines"]) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds == ["started", "done", "started", "failed", "finished"]
    assert events[0]["why"] == "never run" and events[1]["seconds"] > 0
    assert events[3]["model"] == "other" and "not this one" in events[3]["reason"]
    assert events[4]["counts"] == {"done": 1, "failed": 1} and events[4]["exit_code"] == 1
    assert err.startswith("ovectors: 01_first on other failed: AssertionError: not this one")


def test_quiet_says_what_failed_and_nothing_else(two, capsys):
    assert cli.main(["run", "--model", "./tiny", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["run", "--model", "./other", "-q"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert cli.main(["run", "-q", "--json-lines"]) == 2


WAITS = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(300)"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)


def test_a_second_batch_is_refused_until_the_first_is_gone(project):
    trivial.write_chapter(project, extra=WAITS)
    first = start(project, "run", "--model", "./tiny")
    wait_for(project / "started", first)
    said = trivial.one_line(trivial.command(project, "run", "--model", "./tiny"), 2)
    assert f"another batch is running in {project / 'book' / 'runs'} (process {first.pid}" in said
    beside = trivial.command(project, "run", "--model", "./tiny", "--beside")
    assert "another batch is running" in trivial.one_line(beside, 2)
    looking = trivial.command(project, "run", "--model", "./tiny", "--dry-run")
    assert looking.returncode == 0
    first.send_signal(signal.SIGKILL)
    first.communicate()
    trivial.write_chapter(project)
    result = trivial.command(project, "run", "--model", "./tiny")
    assert result.returncode == 0 and "1 run" in result.stdout
    assert [*(project / "book" / "runs").rglob(".*")] == []


def test_beside_one_another_no_chapter_is_run_twice_at_a_time(project):
    trivial.write_chapter(project, extra=WAITS)
    first = start(project, "run", "--model", "./tiny", "--beside")
    wait_for(project / "started", first)
    result = trivial.command(project, "run", "--model", "./tiny", "--beside")
    said = trivial.one_line(result, 2)
    assert f"01_first on tiny failed: it is being run by process {first.pid}" in said
    trivial.write_chapter(project, "02_second")
    result = trivial.command(project, "run", "--model", "./tiny", "--beside", "-c", "2")
    assert result.returncode == 0
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130 and "the same command goes on from here" in err
