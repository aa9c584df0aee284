"""The authors' vectors: fetched on request only, kept only with the right hash, and theirs."""

import dataclasses
import hashlib
import io

import numpy as np
import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from ovectors import authors, catalogue, lens, stream
from ovectors.errors import UserError
from ovectors.experiments.content_independence import gather
from ovectors.experiments.content_independence.measure import authors_vectors
from ovectors.experiments.content_independence.tasks import FURTHER, IN_DOMAIN
from ovectors.experiments.shared.sources import Task, find_sources, o_vectors, patterns
from ovectors.interventions import Replace, next_token_logits
from ovectors.models import LanguageModel, load_model
from ovectors.training.lexicon import Lexicon
from ovectors.training.tokenizer import build_tokenizer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No test sees or fills the user's own cache."""
    monkeypatch.setenv(authors.FOLDER_VARIABLE, str(tmp_path / "authors"))
    return tmp_path / "authors"


@pytest.fixture(scope="module")
def files(shared):
    """The authors' files as the reference material has them, by hash."""
    found = (shared / "paper" / "authors_ovectors").rglob("*.npy")
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.read_bytes() for path in found}


def test_six_vectors_are_known_and_the_catalogue_has_their_layers():
    assert len(authors.VECTORS) == 6
    for one in authors.VECTORS:
        assert catalogue.model_spec(one.model).o_layers[one.relation] == one.layer
        assert one.url == (
            "https://raw.githubusercontent.com/jmerullo/lm_vector_arithmetic/"
            f"{authors.COMMIT}/{one.path}"
        )


def test_the_hashes_are_those_of_the_reference_material(files):
    assert {one.sha256 for one in authors.VECTORS} == set(files)


@pytest.mark.parametrize("model", ["gpt2-medium", "gpt-j-6b"])
def test_a_download_is_checked_kept_and_read(model, files, folder):
    asked = []
    by_url = {one.url: files[one.sha256] for one in authors.VECTORS}

    def get(url):
        asked.append(url)
        return by_url[url]

    assert authors.present(model) == () and model in authors.missing(model)
    paths = authors.download(model, get=get)
    assert len(asked) == 3 and all(path.parent == folder for path in paths)
    assert authors.missing(model) == "" and len(authors.present(model)) == 3
    authors.download(model, get=get)
    assert len(asked) == 3  # what is here is not fetched again
    width = catalogue.model_spec(model).d_model
    for one in authors.known(model):
        values = authors.load(one)
        assert values.shape == (width,) and values.dtype == torch.float32
        expected = np.load(next(path for path in paths if path.name == one.file)).reshape(-1)
        assert values.numpy() == pytest.approx(expected.astype(np.float32))


def test_a_file_with_another_hash_is_not_kept(folder):
    with pytest.raises(UserError, match="has the hash"):
        authors.download("gpt2-medium", get=lambda url: b"something else")
    assert not list(folder.rglob("*.npy"))


def test_a_file_that_was_changed_later_does_not_count(files):
    by_url = {one.url: files[one.sha256] for one in authors.VECTORS}
    first = authors.download("gpt2-medium", get=by_url.__getitem__)[0]
    first.write_bytes(first.read_bytes()[:-1] + b"\x00")
    assert len(authors.present("gpt2-medium")) == 2
    with pytest.raises(UserError, match="not what the authors published"):
        authors.load(authors.known("gpt2-medium")[0])


def test_a_model_without_published_vectors_is_told_in_a_line():
    assert "none for mini-2m" in authors.missing("mini-2m")
    with pytest.raises(UserError, match="none for mini-2m"):
        authors.download("mini-2m", get=lambda url: pytest.fail("nothing may be fetched"))
    assert gather.published_settings(catalogue.model_spec("mini-2m"), {}) == {}


def test_a_network_that_fails_is_a_user_error(monkeypatch):
    def refuse(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr(authors.urllib.request, "urlopen", refuse)
    with pytest.raises(UserError, match="cannot be fetched"):
        authors.download("gpt2-medium")


# The paper's settings


def test_the_paper_s_layers_and_examples_are_those_of_the_catalogue():
    tasks = IN_DOMAIN | FURTHER
    medium = gather.paper_settings(catalogue.model_spec("gpt2-medium"), tasks)
    assert set(medium) == set(tasks)
    found = {name: (one["source_layer"], one["start_layer"]) for name, one in medium.items()}
    assert found["world_capitals"] == found["us_state_capitals"] == (19, 18)
    assert found["past_tense"] == found["irregular_verbs"] == (18, 18)
    assert medium["us_state_capitals"]["examples"] == ("Poland",)
    big = gather.paper_settings(catalogue.model_spec("gpt-j-6b"), tasks)
    assert big["world_capitals"]["start_layer"] == big["world_capitals"]["source_layer"] == 13
    assert gather.paper_settings(catalogue.model_spec("mini-2m"), tasks) == {}


@pytest.fixture
def stand_in(folder, monkeypatch):
    """A small random model, and a vector as if its authors had published one for it."""
    tokenizer = build_tokenizer(Lexicon())
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=96, n_embd=16, n_layer=3, n_head=2)
    network = GPT2LMHeadModel(config).eval()
    buffer = io.BytesIO()
    np.save(buffer, np.linspace(-1, 1, 16, dtype=np.float16)[None])
    one = dataclasses.replace(
        authors.known("gpt2-medium")[0],
        model="random",
        layer=1,
        sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
    )
    monkeypatch.setattr(authors, "VECTORS", (one,))
    authors.download("random", get=lambda url: buffer.getvalue())
    spec = catalogue.ModelSpec(name="random", o_layers={"world_capitals": 1}, replaced=(2, 2))
    return LanguageModel.of(network, tokenizer, name="random"), spec, one


def test_a_published_vector_is_tried_beside_ours(stand_in):
    model, spec, one = stand_in
    settings = gather.published_settings(spec, IN_DOMAIN)
    assert settings["world_capitals"]["start_layer"] == 2
    table = authors_vectors.authors_vectors(
        model, **settings["world_capitals"], n_items=40, max_items=6
    )
    sources = find_sources(model, Task(relation="world_capitals"), examples=("Poland",))
    ours, theirs = o_vectors(model, sources.prompts, layers=(1,))[0, 0], authors.load(one)
    cosine = float(ours @ theirs / (ours.norm() * theirs.norm()))
    assert table["cosine"].to_numpy() == pytest.approx(cosine, abs=1e-5)
    assert set(table["condition"]) == {"control run", "own vector", "authors' vector"}
    assert " Poland" not in set(table["argument"])
    _, report = patterns(model, "world_capitals", n_items=40)
    rows = table[table["condition"] == "authors' vector"]
    change = Replace(layers=(2,), positions="all", vector=theirs)
    logits = next_token_logits(model, report, interventions=[change])
    for prompt, own, token in zip(report.prompts, logits, report.answer_ids, strict=True):
        row = rows[rows["argument"] == prompt.argument]
        if len(row):  # six items are drawn of all
            assert row["rank_answer"].item() == 1 + int((own > own[token]).sum())


# GPT-2 medium itself, where its weights are


@pytest.fixture(scope="module")
def medium():
    from ovectors.catalogue import is_here

    if not is_here(catalogue.model_spec("gpt2-medium")):
        pytest.skip("the weights of gpt2-medium are not on this computer")
    return load_model("gpt2-medium", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def demo(shared):
    return yaml.safe_load((shared / "paper" / "published.yaml").read_text())["demo_gpt2_medium"]


def tops(model, state):
    return "".join(
        model.tokenizer.decode([int(token)])
        for token in lens.top_tokens(lens.LogitLens(model), state[None], k=10)[0]
    )


@pytest.mark.weights
def test_the_demo_s_top_tokens_of_the_poland_prompt(medium, demo):
    ids = [medium.tokenizer.encode(demo["poland_prompt"])]
    recorded = stream.record(medium, ids, parts=("after", "ffn"))
    for layer, printed in demo["top10_by_layer"].items():
        assert tops(medium, recorded["after"][layer, 0]) == printed
    vector = recorded["ffn"][19, 0]
    assert tops(medium, recorded["after"][19, 0] - vector) == demo["layer19_minus_o19_top10"]
    for layer, printed in demo["plus_o19_top10"].items():
        assert tops(medium, recorded["after"][layer, 0] + vector) == printed
    for layer, one in demo["minus_scaled_o19_top10"].items():
        state = recorded["after"][layer, 0] - one["scale"] * vector
        assert tops(medium, state) == one["tokens"]


@pytest.mark.weights
def test_the_demo_s_china_pattern_turns_into_beijing(medium, demo):
    printed = demo["china_pattern"]
    ids = [medium.tokenizer.encode(printed["prompt"])]
    plain = stream.record(medium, ids, parts=("after",))["after"][:, 0]
    for layer in range(14, medium.n_layers):
        best = lens.top_tokens(lens.LogitLens(medium), plain[layer][None], k=1)[0, 0]
        expected = printed["top1_from_layer_14_without_intervention"]
        assert medium.tokenizer.decode([int(best)]) == expected
    poland = [medium.tokenizer.encode(demo["poland_prompt"])]
    vector = stream.record(medium, poland, parts=("ffn",), layers=(19,))["ffn"][0, 0]
    change = Replace(layers=range(18, 24), positions="all", vector=vector)
    logits = next_token_logits(medium, ids, interventions=[change])[0]
    expected = printed["top1_last_layer_with_o_city_layers_18_to_23"]
    assert medium.tokenizer.decode([int(logits.argmax())]) == expected


@pytest.mark.weights
def test_our_vector_of_poland_is_the_authors_one(medium, files):
    prompts = find_sources(medium, Task(relation="world_capitals"), examples=("Poland",)).prompts
    ours = o_vectors(medium, prompts, layers=(19,))[0, 0]
    one = next(one for one in authors.known("gpt2-medium") if one.relation == "world_capitals")
    theirs = torch.from_numpy(np.load(io.BytesIO(files[one.sha256])).reshape(-1)).float()
    assert float(torch.cosine_similarity(ours, theirs, dim=0)) > 0.999
