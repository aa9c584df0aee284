"""What jobs ask for: by hand from the catalogue's numbers."""

from __future__ import annotations

import json

import pytest

from ovectors import costing, fitting, paths, resources
from ovectors.catalogue import ModelSpec, catalogue
from ovectors.resources import of_model


def test_a_miniature_asks_for_no_gpu_and_twice_what_it_took():
    small = of_model(catalogue()["mini-6m"], gpu_gb=80)
    assert (small.gpus, small.device) == (0, "cpu")
    assert 5_000 < small.mem_mb < 6_000  # a batch and decoding may take a gigabyte
    assert small.runtime == pytest.approx(60 + 2 * 873 / 60, abs=1)


def test_the_arithmetic_of_bloom():
    """176,247,271,424 parameters in bfloat16, with headroom, and a batch of one prompt; the stream,
    as counted on the miniature's 12 layers, lies in main memory."""
    counted = json.loads((paths.ROOT / costing.COUNTED).read_text())["chapters"]["all"]
    asked = of_model(catalogue()["bloom"], gpu_gb=80)
    on_device = 352_494_542_848 * 1.2 + 2 * 70 * 14_336 * 2 * counted["tokens"] + 2**30
    assert (asked.gpus, asked.device) == (6, "cuda") and 5 * 80e9 < on_device <= 6 * 80e9
    stream = counted["stream"] / 12 * 70 * 14_336 * 4
    assert asked.mem_mb == pytest.approx(4_000 + (on_device + stream) / 1e6, abs=1)
    on_two_cores = 873 * (176_247_271_424 / 6.45e6) * (70 / 16)
    assert asked.runtime == pytest.approx(60 + 2 * on_two_cores / 300 / 60, abs=1)


def test_smaller_gpus_are_more_gpus_and_without_any_it_takes_longer():
    spec = catalogue()["gpt-j-6b"]
    large, small, none = (of_model(spec, gpu_gb=size) for size in (80, 8, 0))
    assert large.gpus == 1 and small.gpus > 1 and none.gpus == 0
    assert large.mem_mb == small.mem_mb == none.mem_mb
    assert none.runtime > large.runtime == small.runtime


def test_what_nobody_has_counted_is_taken_for_large(monkeypatch):
    unknown = ModelSpec(name="somebody--model", hub_id="somebody/model")
    asked = of_model(unknown, gpu_gb=80)
    assert asked.gpus == 1 and asked.mem_mb == 68_000
    assert of_model(unknown, gpu_gb=0).gpus == 0
    monkeypatch.setattr(fitting, "this_machine", lambda: pytest.fail("it looked at this machine"))
    assert of_model(unknown, gpu_gb=80) == asked
    assert resources.LIGHT.gpus == 0
