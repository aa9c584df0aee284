"""The command line: every bad input is one clear line and its exit code, nothing half-written."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import trivial
from ovectors import architectures, batch, cli

pytestmark = pytest.mark.kernel

READ_CSV = """
from ovectors.relations import load_relation
relation = load_relation("mine", path=note)
"""


@pytest.fixture
def project(tmp_path, tiny_folder):
    return trivial.make_project(tmp_path / "project", tiny=tiny_folder)


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


@pytest.mark.parametrize(("deadly", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_is_one_line_and_leaves_nothing(project, deadly, code):
    trivial.write_chapter(project, extra=trivial.WAITS)
    process = trivial.start(project, "run", "--model", "./tiny")
    trivial.wait_for(project / "started", process)
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
        return right(config) | {"ffn": "attn"}

    monkeypatch.setitem(architectures._FAMILIES, "gpt2", wrong)
    assert cli.main(["check", str(project / "tiny")]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert "is refused: at layer" in err and len(err.splitlines()) == 1
    assert " no" in out


def test_a_reader_that_has_gone_is_no_error(project):
    command = f"{sys.executable} -m ovectors models | head -n 1 > /dev/null"
    environment = trivial.environment(project)
    result = subprocess.run(
        ["bash", "-c", command], env=environment, cwd=project, capture_output=True, text=True
    )
    assert result.stderr == ""
