"""Small masked language models of several kinds, with a WordPiece vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.support.tiny_models import TEXT

SPECIAL = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
PAD = list(SPECIAL).index("pad")

BERT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}

# Windows are 32 tokens here, with an overlap of 16, or what the model takes.
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "bert": ("BertConfig", BERT, 32),
    "bert, shorter than our window": ("BertConfig", BERT | {"max_position_embeddings": 24}, 24),
    "roberta": ("RobertaConfig", BERT | {"max_position_embeddings": 24 + PAD + 1}, 24),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "initializer_range": 0.2}
        | {"max_position_embeddings": 64},
        32,
    ),
    "modernbert, sliding": (
        "ModernBertConfig",
        BERT
        | {"local_attention": 8, "global_attn_every_n_layers": 2, "initializer_cutoff_factor": 4.0},
        32,
    ),
    "electra, narrow head": ("ElectraConfig", BERT | {"embedding_size": 16}, 32),
    "convbert, sees padding": ("ConvBertConfig", BERT | {"embedding_size": 32}, 32),
    "fnet, without attention mask": (
        "FNetConfig",
        {key: value for key, value in BERT.items() if key != "num_attention_heads"},
        32,
    ),
}


def make_word_pieces(folder: Path) -> int:
    """Train a WordPiece vocabulary, save it as transformers does, and return its size."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    backend.train_from_iterator([TEXT], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    settings = {f"{name}_token": token for name, token in SPECIAL.items()}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(backend.get_vocab_size())


def make_masked(name: str, vocab: int, seed: int) -> Any:
    """Make a random model; its output layer's bias is not zero."""
    kind, settings, _ = MODELS[name]
    torch.manual_seed(seed)
    config = getattr(transformers, kind)(vocab_size=vocab, pad_token_id=PAD, **settings)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    if (bias := model.get_output_embeddings().bias) is not None:
        torch.nn.init.normal_(bias)
    return model


def make_masked_runs(folder: Path, name: str, seeds: tuple[str, ...] = ("1", "2")) -> None:
    """Tokenizer, text and `runs/seed<seed>/step5`, with 4 rows of padding in the vocabulary."""
    vocab = make_word_pieces(folder / "tokenizer") + 4
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in seeds:
        model = make_masked(name, vocab, int(seed))
        model.save_pretrained(folder / f"runs/seed{seed}/step5")
