"""Checkpoints of any architecture, by a loader of the user: scored as exactly as others."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

import tests.support
from engine.sources.local import LocalSource
from engine.study_file.models_section import ModelSection
from seedconv_tui.cli.main import run
from store import Study, open_study
from store.analysis import hidden_alignment
from tests.support.nano_gpt import GPT, GPTConfig
from tests.support.reference import windowed_log_probs
from tests.support.tiny_models import TEXT, make_tokenizer, write_study

SEEDS = ("1", "2", "3")
NANO = Path(tests.support.__file__).with_name("nano_gpt.py")
DOCS = Path(__file__).parents[2] / "docs/loader.md"
LOADED = """
import numpy as np
import torch
from model import GPT, GPTConfig

def gpt(path):
    file = path if path.is_file() else path / "ckpt.pt"
    saved = torch.load(file, map_location="cpu", weights_only=True)
    module = GPT(GPTConfig(**saved["model_args"]))
    module.load_state_dict({name[10:]: weight for name, weight in saved["model"].items()})
    return module.eval()

def logits(module, ids):
    with torch.no_grad():
        ids = torch.from_numpy(ids)
        return module(ids, ids)[0]
"""


def make_nano(folder: Path, seeds: tuple[str, ...] = SEEDS, step: int = 5, **config: Any) -> None:
    """Write tokenizer, text, `model.py` and checkpoints as nanoGPT saves them."""
    vocab = make_tokenizer(folder / "tokenizer").get_vocab_size() + 4
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    shutil.copy(NANO, folder / "model.py")
    for seed in seeds:
        torch.manual_seed(int(seed))
        model = GPT(GPTConfig(vocab_size=vocab, **config))
        place = folder / f"out/seed{seed}/{step}"
        place.mkdir(parents=True)
        weights = {f"_orig_mod.{name}": weight for name, weight in model.state_dict().items()}
        saved = {"model": weights, "model_args": vars(model.config), "iter_num": step}
        torch.save(saved, place / "ckpt.pt")


def write_loader(folder: Path, code: str) -> str:
    """Write a loader under a name that no other test has: they share one process."""
    name = f"loader_{hashlib.blake2b(f'{folder}{code}'.encode(), digest_size=6).hexdigest()}"
    (folder / f"{name}.py").write_text(code)
    return f"{name}:load"


def documented() -> str:
    """The loader that the docs show for nanoGPT."""
    found = re.search(r"```python\n# nano_loader.py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    return found[1]


def score(folder: Path, loader: str, rc: int = 0, **settings: Any) -> Study:
    settings = {"models__source": "out/seed{seed}/{step}", "scoring__window": 64} | settings
    file = write_study(folder, models__loader=loader, **settings)
    assert run(["run", str(file)]) == rc
    return open_study(folder / settings.get("study__store", "study.zarr"))


def exact(folder: Path, seed: str, step: int = 5) -> NDArray[np.float64]:
    """(token, vocab) float64 log-probs, without the engine and without the loader."""
    saved = torch.load(folder / f"out/seed{seed}/{step}/ckpt.pt")
    model = GPT(GPTConfig(**saved["model_args"]))
    model.load_state_dict({name[10:]: weight for name, weight in saved["model"].items()})
    model.eval().double()
    with torch.no_grad():
        return windowed_log_probs(folder, lambda ids: model(ids, ids)[0], stream=True)[0]


def assert_exact(folder: Path, study: Study) -> None:
    data = study.dataset("m").sel(step=5)
    rows = {seed: exact(folder, seed) for seed in SEEDS}
    for seed, other in (("1", "2"), ("3", "1")):
        p, q = rows[seed], rows[other]
        kl = (np.exp(p) * (p - q)).sum(1)
        found = data.kl.sel(seed=seed, other_seed=other)
        assert (np.abs(found - kl) <= 2e-6 + 1e-4 * kl).all()


@pytest.mark.parametrize("representation", ["factored", "none"])
def test_the_documented_loader_is_exact(tmp_path: Path, representation: str) -> None:
    make_nano(tmp_path)
    study = score(
        tmp_path, write_loader(tmp_path, documented()), log_probs__representation=representation
    )
    assert_exact(tmp_path, study)
    records = study.ledger("m").scored
    assert {record["window"] for record in records.values()} == {32}  # of its block_size
    assert {record["model_vocab"] for record in records.values()} == {304}
    assert float(study.dataset("m").noise_floor.max()) < 1e-9


SHARED = """
class Shared:
    def __init__(self, array):
        self._array = array
    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)
    def __dlpack_device__(self):
        return self._array.__dlpack_device__()
"""
ARRAY = """
class Array:
    def __init__(self, array):
        self._array = array
    def __array__(self, dtype=None, copy=None):
        return self._array
"""
FUNCTIONS = {
    "tensor": "function = lambda ids: logits(module, ids)",
    "numpy": "function = lambda ids: logits(module, ids).numpy().astype(np.float64)",
    "dlpack": "function = lambda ids: Shared(logits(module, ids))",
    "array": "function = lambda ids: Array(logits(module, ids).numpy())",
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_may_return_any_kind_of_array(tmp_path: Path, kind: str) -> None:
    make_nano(tmp_path)
    code = f"""{LOADED}{SHARED}{ARRAY}
class Function:
    context = 32
    def __init__(self, function):
        self.function = function
    def __call__(self, ids):
        assert isinstance(ids, np.ndarray) and ids.dtype == np.int64
        return self.function(ids)

def load(path, *, model, seed, step, device, cache):
    module = gpt(path)
    {FUNCTIONS[kind]}
    return Function(function)
"""
    study = score(
        tmp_path,
        write_loader(tmp_path, code),
        log_probs__representation="none",
        scoring__divergences=["kl", "cka"],
    )
    assert_exact(tmp_path, study)
    assert np.isnan(study.means("m", "cka")).all()  # a function has no hidden states
    assert run(["verify", str(study.path)]) == 0
    said = [it.text for it in study.snapshot().journal if "without hidden states" in it.text]
    assert "3 seeds without hidden states" in said[0]


HIDDEN = f"""{LOADED}
class Factors:
    context = 32
    closed = []

    def __init__(self, module, path):
        self.module, self.path = module, path
        self.output_layer = (module.lm_head.weight.numpy(), None, 1.0)

    def __call__(self, ids):
        return logits(self.module, ids)

    def hidden(self, ids):
        seen = []
        hook = self.module.lm_head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        self(ids)
        hook.remove()
        return seen[0].numpy()

    @property
    def fingerprint(self):
        return "weights of " + self.path.parent.name

    def close(self):
        self.closed.append(self.path.parent.name)

def load(path, *, model, seed, step, device, cache):
    assert (model, step, device) == ("m", 5, "cpu") and path.is_absolute()
    cache["n"] = cache.get("n", 0) + 1
    module = gpt(path).requires_grad_(False)
    return Factors(module, path)
"""


def test_hidden_states_and_output_layer_are_kept_factored(tmp_path: Path) -> None:
    make_nano(tmp_path)
    loader = write_loader(tmp_path, HIDDEN)
    divergences = ["kl", "cka"]
    study = score(
        tmp_path, loader, log_probs__representation="factored", scoring__divergences=divergences
    )
    assert_exact(tmp_path, study)
    assert study.log_probs("m", "1", 5).output_layer is not None
    found = hidden_alignment(study, [("m", "1", 5), ("m", "3", 5)])
    assert study.means("m", "cka")[0, 0, 2] == pytest.approx(found.cka[0, 1], rel=1e-9)
    module = sys.modules[loader.partition(":")[0]]
    assert module.Factors.closed == [f"seed{seed}" for seed in SEEDS]


def test_half_precision_loses_nothing_but_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The product with the output layer is in float32, so that a module may stay factored."""
    make_nano(tmp_path)
    half = documented().replace(".to(device)", ".to(device, torch.bfloat16)")
    study = score(tmp_path, write_loader(tmp_path, half), log_probs__representation="factored")
    data = study.dataset("m").sel(step=5)
    p, q = exact(tmp_path, "1"), exact(tmp_path, "2")
    kl = (np.exp(p) * (p - q)).sum(1).mean()
    assert abs(float(data.kl.sel(seed="1", other_seed="2").mean()) - kl) < 0.05 * kl
    told = capsys.readouterr().err
    assert "its loader computes in bfloat16, where scoring.dtype is float32" in told
    assert study.log_probs("m", "1", 5).output_layer is not None


WRONG = {
    "raises": ("raise KeyError('model')", "fails: KeyError: 'model' ("),
    "exits": ("raise SystemExit('usage')", "fails: SystemExit: usage ("),
    "nothing": ("return None", "its loader returned NoneType; it should return an nn.Module"),
    "module": (
        "return torch.nn.Embedding(300, 7)",
        "its module returns no logits of shape (1, 16, 300 or more); have the loader return a",
    ),
    "arguments": (
        "return torch.nn.Bilinear(2, 2, 2)",
        "its module wants input2 besides the ids of tokens; have the loader return a function",
    ),
    "list": ("return lambda ids: [1.0]", "logits should be an array or a tensor, found list"),
    "integers": (
        "return lambda ids: f(ids).long()",
        "logits should be floating-point numbers, found int64",
    ),
    "texts": (
        "return lambda ids: np.array(['a'])",
        "logits should be of a type that torch has, found <U1",
    ),
    "last": (
        "return lambda ids: f(ids)[:, -1:]",
        "logits should have the shape (batch, position, vocab), 1 x 16 x ..., found 1 x 1 x 304",
    ),
    "few": ("return lambda ids: f(ids)[..., :299]", "has a vocabulary of 299, the study's"),
    "nan": (
        "return lambda ids: f(ids) * np.nan",
        "its logits are NaN or infinite at the first tokens",
    ),
    "sight": (
        "return lambda ids: f(ids) + f(ids).mean(1, keepdim=True)",
        "says something else of the first 8 tokens when others follow them: only causal models",
    ),
    "next": (
        "return lambda ids: f(ids) + 0.1 * f(ids).roll(-1, 1)",
        "says something else of some of the first 8 tokens when those that follow are others",
    ),
    "probabilities": (
        "return lambda ids: f(ids).softmax(-1)",
        "returns probabilities; return logits, or their logarithms",
    ),
    "positions": (
        "return Module(lambda self, ids, positions: f(ids.numpy()))",
        "its module wants positions besides the ids of tokens; have the loader return a function",
    ),
    "several": (
        "return Module(lambda self, ids: (torch.ones(*ids.shape, 320), f(ids.numpy())))",
        "its module returns several tensors that may be logits, (1, 16, 320) and (1, 16, 304); ",
    ),
    "chance": (
        "return lambda ids: f(ids) + torch.rand(ids.shape)[..., None] * torch.arange(304)",
        "says something else",
    ),
    "context": ("f.context = '32'; return f", ".context should be a number of tokens, found '32'"),
    "changing": (
        "F.context = property(lambda f: 32 - (len(f.asked) > 3)); return f",
        "its context is 31 now, and was 32 when it was loaded",
    ),
    "half": ("f.hidden = f; return f", "has no .output_layer; .hidden and .output_layer are of no"),
    "layer": (
        "f.hidden = states; f.output_layer = weight; return f",
        ".output_layer should be (weight, bias or None, scale), found Parameter",
    ),
    "transposed": (
        "f.hidden = states; f.output_layer = (weight.T, None, 1); return f",
        "the weight of .output_layer should be (vocab, hidden), 304 x 32, found 32 x 304",
    ),
    "other": (
        "f.hidden = states; f.output_layer = (weight, None, 2); return f",
        ".hidden times .output_layer is not what the function returns: the largest difference is",
    ),
    "mark": ("f.fingerprint = 7; return f", ".fingerprint should be a text, found int"),
    "window": (
        "return lambda ids: f(ids) if ids.shape[1] < 32 else 1 / 0",
        "its model fails: ZeroDivisionError: division by zero",
    ),
}


def test_what_is_wrong_with_a_loader_fails_that_checkpoint_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_nano(tmp_path, ("1",))
    for seed in (*WRONG, "2"):
        shutil.copytree(tmp_path / "out/seed1", tmp_path / f"out/seed{seed}")
    cases = "\n".join(
        f"    if seed == {seed!r}:\n        {code}" for seed, (code, _) in WRONG.items()
    )
    loader = write_loader(
        tmp_path,
        f"""{LOADED}
def Module(forward):
    made = type("Module", (torch.nn.Module,), {{"forward": forward}})()
    made.config = GPTConfig()
    return made

def load(path, *, model, seed, step, device, cache):
    module = gpt(path).requires_grad_(False)
    weight = module.lm_head.weight
    class F:
        context = 32
        asked = []
        def __call__(self, ids):
            self.asked.append(len(ids))
            return logits(module, ids)
    f = F()
    states = lambda ids: torch.zeros(*ids.shape, 32) + 1
{cases}
    return f
""",
    )
    file = write_study(
        tmp_path, models__source="out/seed{seed}/{step}", models__loader=loader, scoring__window=32
    )
    assert run(["run", str(file)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    for seed, (_, expected) in WRONG.items():
        (line,) = [line for line in lines if f"/out/seed{seed}/5: " in line]
        assert expected in line
    study = open_study(tmp_path / "study.zarr")
    assert {seed for seed, _ in study.ledger("m").scored} == {"1", "2"}
    assert study.duplicates("m") == {("2", 5): ("m", "1", 5)}  # files that are equal
    assert f"{loader} fails: KeyError: 'model' ({loader[:-5]}.py, line " in "".join(lines)


IMPORTS = {
    "missing:load": "missing cannot be imported: ModuleNotFoundError: No module named 'missing'",
    "BROKEN:load": "cannot be imported: NameError: name 'nothing' is not defined (",
    "FINE:other": "loader: other is not there in ",
    "FINE:LIST": "loader: LIST is no function in ",
    "engine.load:load": "loader: the name 'engine' is taken by ",
    "json:load": "loader: the name 'json' is taken by ",
}


@pytest.mark.parametrize("loader", IMPORTS)
def test_a_loader_that_cannot_be_imported_is_an_error_of_the_study_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loader: str
) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/load.py").write_text("def load(): pass")
    (tmp_path / "json.py").write_text("def load(): pass")
    broken = write_loader(tmp_path, "nothing.at_all()")[:-5]
    fine = write_loader(tmp_path, "LIST = []")[:-5]
    name = loader.replace("BROKEN", broken).replace("FINE", fine)
    file = write_study(tmp_path, models__source="out/seed{seed}/{step}", models__loader=name)
    before = list(sys.path)
    assert run(["run", str(file)]) == 2
    found = capsys.readouterr().err
    assert IMPORTS[loader] in found
    assert len(found.splitlines()) == 1
    assert not (tmp_path / "study.zarr").exists()
    assert sys.path[: len(before)] == before  # what lies there hides nothing that is installed


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"models__loader": "nano_loader"}, 'model "m": loader: should '),
        (
            {"models__loader": "a:b", "models__source": "hf://o/m-{seed}@{step}"},
            'model "m": loader: is for checkpoints in folders; download these first',
        ),
        (
            {"models__loader": "a:b", "models__allow_pickle": True},
            'model "m": allow_pickle: is of no use with a loader, which reads checkpoints',
        ),
        (
            {"models__loader": "a:b", "scoring__prediction": "pseudo"},
            'scoring.prediction: should be "causal" where a model has a loader, as model "m" has',
        ),
    ],
)
def test_what_does_not_go_with_a_loader_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], expected: str
) -> None:
    assert run(["run", str(write_study(tmp_path, **settings))]) == 2
    assert expected in capsys.readouterr().err


def test_a_vocabulary_of_fewer_entries_than_are_kept_of_each_token_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_nano(tmp_path)
    small = Tokenizer(models.WordLevel({name: n for n, name in enumerate("ACGTN?")}, unk_token="?"))
    small.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    small.save(str(tmp_path / "tokenizer/tokenizer.json"))
    (tmp_path / "text.txt").write_text("ACGTTGCANNACGT" * 9)
    loader = write_loader(tmp_path, "def load(): ...")
    settings = {"models__source": "out/seed{seed}/{step}", "models__loader": loader}
    assert run(["run", str(write_study(tmp_path, **settings))]) == 2
    said = capsys.readouterr().err
    assert "tokenizer.source: 'tokenizer' has 7 entries; at least 10 are needed" in said


def test_an_output_layer_that_serves_earlier_layers_too_is_no_factor(tmp_path: Path) -> None:
    make_nano(tmp_path)
    code = f"""{LOADED}
class Deep(torch.nn.Module):
    def __init__(self, gpt):
        super().__init__()
        self.gpt, self.config = gpt, gpt.config
    def forward(self, ids):
        early = self.gpt.lm_head(self.gpt.wte(ids))
        return self.gpt(ids, ids)[0]

def load(path, *, model, seed, step, device, cache):
    return Deep(gpt(path))
"""
    study = score(tmp_path, write_loader(tmp_path, code), log_probs__representation="none")
    assert_exact(tmp_path, study)


def test_what_a_loader_sets_for_the_process_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_nano(tmp_path)
    code = f"""{LOADED}
import os, signal

def load(path, *, model, seed, step, device, cache):
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    for place in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)):
        if hasattr(place, "fp32_precision"):  # mixed with older settings, torch names neither
            place.fp32_precision = "tf32"
    return gpt(path).float()
"""
    loader = write_loader(tmp_path, code)
    monkeypatch.chdir(tmp_path)
    backends: Any = torch.backends
    settings = (
        Path.cwd, lambda: signal.getsignal(signal.SIGINT), torch.get_num_threads,
        torch.is_grad_enabled, torch.get_deterministic_debug_mode, torch.get_default_dtype,
    )  # fmt: skip
    before = [ask() for ask in settings]
    assert_exact(tmp_path, score(Path(), loader, log_probs__representation="none"))
    assert [ask() for ask in settings] == before
    assert not torch.backends.cuda.matmul.allow_tf32
    assert getattr(getattr(backends.mkldnn, "matmul", None), "fp32_precision", "ieee") == "ieee"


def test_one_module_for_several_checkpoints_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Used again it is as good as new where one is scored after the other, but not side by side."""
    make_nano(tmp_path)
    code = f"""{LOADED}
def load(path, *, model, seed, step, device, cache):
    module = cache.setdefault("module", gpt(path))
    module.load_state_dict(gpt(path).state_dict())
    return module if model == "m" else lambda ids: logits(module, ids)
"""
    loader = write_loader(tmp_path, code)
    assert_exact(tmp_path, score(tmp_path, loader, log_probs__representation="factored"))
    fused = {"log_probs__representation": "none", "scoring__window": 32}
    for model in ("m", "functions"):
        store = {"study__store": f"{model}.zarr", "models__name": model}
        score(tmp_path, loader, 1, **fused, **store)
        errors = capsys.readouterr().err
        assert "out/seed2/5: its loader changed the model of " in errors
        assert "make a new one for each checkpoint" in errors


def test_a_checkpoint_may_be_one_file(tmp_path: Path) -> None:
    make_nano(tmp_path)
    for seed in SEEDS:
        shutil.move(tmp_path / f"out/seed{seed}/5/ckpt.pt", tmp_path / f"out/seed{seed}/5.weights")
        shutil.rmtree(tmp_path / f"out/seed{seed}/5")
    code = f"""{LOADED}
def load(path, *, model, seed, step, device, cache):
    return gpt(path)
"""
    loader, source = write_loader(tmp_path, code), "out/seed{seed}/{step}.weights"
    study = score(tmp_path, loader, models__source=source)
    assert len(study.ledger("m").scored) == 3


def test_whatever_files_rest_or_were_announced_are_a_checkpoint(tmp_path: Path) -> None:
    now = [0.0]
    model = ModelSection(name="m", source="out/{seed}/{step}", loader="a:b")
    source = LocalSource(model, tmp_path, lambda: now[0])
    folder = tmp_path / "out/1/5"
    inside = folder / "state/d"
    inside.mkdir(parents=True)
    (inside / "part").write_text("a")
    assert source.find().there == {("1", 5)}
    checkpoint = source.checkpoint(("1", 5))
    assert not checkpoint.finished()
    now[0] = 2.0
    (inside / "part").write_text("ab")  # deep inside something is still being written
    assert not checkpoint.finished()
    now[0] = 4.0
    assert not checkpoint.finished()
    assert checkpoint.refused(waiting=True) is None
    now[0] = 5.5
    assert checkpoint.finished()
    assert not checkpoint.gone()
    shutil.rmtree(folder)
    assert checkpoint.gone()
    assert source.hint() is None


def test_memory_that_runs_out_halves_batches_of_a_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_nano(tmp_path)
    code = f"""{LOADED}
def load(path, *, model, seed, step, device, cache):
    module = gpt(path)
    def function(ids):
        if len(ids) > 3:
            raise MemoryError("Unable to allocate 1 GiB")
        return logits(module, ids).numpy()
    function.context = 32
    return function
"""
    loader = write_loader(tmp_path, code)
    study = score(tmp_path, loader, log_probs__representation="none", scoring__windowing="document")
    assert "out of memory with" in capsys.readouterr().err
    assert len(study.ledger("m").reduced) == 1


@pytest.mark.long
def test_processes_of_their_own_find_the_loader(tmp_path: Path) -> None:
    make_nano(tmp_path)
    (tmp_path / "nano_loader.py").write_text(documented())
    factored = {"log_probs__representation": "factored"}
    one = score(tmp_path, write_loader(tmp_path, documented()), **factored)
    both = {"study__store": "both.zarr", "scoring__device": "cpu,cpu"}
    two = score(tmp_path, "nano_loader:load", **factored, **both)
    assert two.dataset("m").load().equals(one.dataset("m").load())
