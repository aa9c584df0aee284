"""Which worker does which job: a model's kernel is kept, and not doubled where it is large."""

from __future__ import annotations

from concurrent.futures import Future

from ovectors.catalogue import ModelSpec
from ovectors.workers import SMALL, Worker, choose, is_small

BIG = ModelSpec(name="big", parameters=SMALL)
OTHER = ModelSpec(name="other", parameters=SMALL)
TINY = ModelSpec(name="tiny", parameters=SMALL // 4)


def worker(model: str = "", *, busy: bool = False) -> Worker:
    made = Worker()
    made.model, made.job = model, Future() if busy else None
    return made


def test_a_worker_stays_with_its_model():
    free, serving = worker(), worker("big")
    assert choose([free, serving], [OTHER, BIG]) == (serving, 1)


def test_a_free_worker_takes_the_first_model_that_nobody_serves():
    free = worker()
    assert choose([worker("big", busy=True), free], [BIG, TINY, OTHER]) == (free, 1)


def test_a_large_model_is_not_loaded_twice():
    assert choose([worker("big", busy=True), worker()], [BIG, BIG]) is None


def test_a_small_model_gets_a_second_kernel_where_nothing_else_is_to_do():
    free = worker()
    assert choose([worker("tiny", busy=True), free], [TINY]) == (free, 0)
    assert choose([worker("tiny", busy=True), free], [TINY, BIG]) == (free, 1)


def test_nobody_is_asked_to_do_two_things():
    assert choose([worker("tiny", busy=True)], [TINY, BIG]) is None
    assert choose([worker()], []) is None


def test_what_is_small_is_known(tmp_path):
    assert is_small(TINY) and not is_small(BIG)
    assert not is_small(ModelSpec(name="unknown"))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    assert not is_small(ModelSpec(name="broken", folder=tmp_path))
