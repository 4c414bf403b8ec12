"""Log-probs of one checkpoint, in the representation they were kept in; readers need not know it.

- dense: float16 (token, vocab). Rounding shifts each row's total probability, so rows are
  renormalised when read.
- factored: what the output layer works with, `hidden` (token, hidden), `output_embedding`
  (vocab, hidden), `output_bias` (vocab) and `logit_scale`, float32; log-probs are computed again
  block by block, exact to float32. Far smaller when tokens and entries are many more than units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from store.errors import DamagedError
from store.schema.array_layout import ArrayLayout
from store.schema.layout import log_prob_rows, rows_near
from store.schema.output_layer import OutputLayer, Representation
from store.schema.packed import chunk_keys
from store.storage.arrays import Array, create_array, create_group, expect, open_array, read, write
from store.storage.durable_store import DurableStore

_FACTOR_BYTES = 4 * 2**20  # uncompressed bytes of a chunk of a factor
_DENSE_BYTES = 1.3  # per log-prob on disk; measured by benchmarks/codecs.py
_FACTORED_BYTES = 4.0  # per number of a factor; weights trained in half precision take half


def _dense_layout(n_tokens: int, vocab_size: int) -> ArrayLayout:
    what = "log p(v | context), rounded: renormalise each token's row when reading"
    return ArrayLayout(
        shape=(n_tokens, vocab_size),
        chunks=(log_prob_rows(vocab_size), vocab_size),
        dtype="float16",
        dims=("token", "vocab"),
        attributes={"units": "nats", "description": what},
    )


def _factor_layouts(n_tokens: int, vocab_size: int, width: int) -> dict[str, ArrayLayout]:
    what = "logits are logit_scale * (hidden . output_embedding + output_bias)"
    rows = rows_near(_FACTOR_BYTES, 4 * width)
    block = max(rows, log_prob_rows(vocab_size))
    layouts: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]] = {
        "hidden": ((n_tokens, width), (block, width), ("token", "hidden")),
        "output_embedding": ((vocab_size, width), (rows, width), ("vocab", "hidden")),
        "output_bias": ((vocab_size,), (rows_near(_FACTOR_BYTES, 4),), ("vocab",)),
        "logit_scale": ((1,), (1,), ("one",)),
    }
    return {
        name: ArrayLayout(shape, chunks, "float32", dims, {"description": what})
        for name, (shape, chunks, dims) in layouts.items()
    }


class LogProbs(ABC):
    """One checkpoint's committed log-probs, read block by block.

    `log_probs[a:b]` is float32 (b - a, vocab), natural log, each row summing to 1 as probability.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(token, vocab)."""

    @property
    def block_rows(self) -> int:
        """Tokens per block: a block that starts at a multiple of it reads nothing twice."""
        return log_prob_rows(self.shape[1])

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Memory that reading it block by block takes."""

    @abstractmethod
    def stored(self, start: int, stop: int) -> NDArray[Any]:
        """Rows as kept, float16 or float32: log-probs up to one constant per token.

        Raise DamagedError.
        """

    @property
    def output_layer(self) -> OutputLayer | None:
        """Return what makes logits of `states`; None: they are rows of log-probs already."""
        return None

    @property
    def hidden_width(self) -> int | None:
        """Return the units of `states`; None: these are no hidden states."""
        return None

    @property
    def state_rows(self) -> int:
        """Return how many tokens a block of `states` holds: from a multiple on it is read once."""
        return self.block_rows

    def states(self, start: int, stop: int) -> NDArray[Any]:
        """Return what is kept of each token, (token, width). Raise DamagedError."""
        return self.stored(start, stop)

    def __getitem__(self, tokens: slice) -> NDArray[np.float32]:
        start, stop, stride = tokens.indices(self.shape[0])
        if stride != 1:
            raise IndexError("log-probs are read in runs of tokens: use a slice without a stride")
        block = self.stored(start, stop).astype(np.float32)
        largest = block.max(axis=1, keepdims=True, initial=-np.inf)
        total = np.exp(block - largest).sum(axis=1, dtype=np.float64, keepdims=True)
        block -= (largest + np.log(total)).astype(np.float32)
        return block

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first token, block) in corpus order, each as `log_probs[a:b]` gives it."""
        for start in range(0, self.shape[0], self.block_rows):
            yield start, self[start : start + self.block_rows]


class DenseLogProbs(LogProbs):
    """Log-probs kept whole, in float16."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, int]:
        """(token, vocab)."""
        n_tokens, vocab_size = self._array.shape
        return n_tokens, vocab_size

    @property
    def held_bytes(self) -> int:
        """A block."""
        return 2 * self.block_rows * self.shape[1]

    def stored(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows as kept, float16."""
        block: NDArray[np.float16] = read(self._array, (slice(start, stop), slice(None)))
        return block


class FactoredLogProbs(LogProbs):
    """Log-probs computed from the factors that were kept. Holds the output embedding in memory."""

    def __init__(self, store: Store, path: str, n_tokens: int, vocab_size: int) -> None:
        self._shape = n_tokens, vocab_size
        arrays = {name: open_array(store, f"{path}/{name}") for name in _factor_layouts(1, 1, 1)}
        layouts = _factor_layouts(n_tokens, vocab_size, arrays["hidden"].shape[-1])
        self._arrays = {name: expect(array, layouts[name]) for name, array in arrays.items()}
        self._held = (-1, np.empty((0, 0), np.float32))  # the chunk read last: one gives many rows

    @property
    def shape(self) -> tuple[int, int]:
        """(token, vocab)."""
        return self._shape

    @property
    def held_bytes(self) -> int:
        """A block, the output embedding and a chunk of hidden states."""
        rows = self.shape[1] + self.state_rows
        return 4 * (self.block_rows * self.shape[1] + rows * self.hidden_width)

    @cached_property
    def output_layer(self) -> OutputLayer:
        """Return what the hidden states are multiplied by. Raise DamagedError."""
        weight, bias, scale = (
            read(self._arrays[name], (slice(None),))
            for name in ("output_embedding", "output_bias", "logit_scale")
        )
        return OutputLayer(weight, bias, float(scale[0]))

    def stored(self, start: int, stop: int) -> NDArray[np.float32]:
        """Logits, float32."""
        return self.output_layer.logits(self.states(start, stop))

    @property
    def hidden_width(self) -> int:
        """Units of the hidden states."""
        return int(self._arrays["hidden"].shape[-1])

    @property
    def state_rows(self) -> int:
        """Tokens per block of hidden states: one that starts at a multiple is read once."""
        return int(self._arrays["hidden"].chunks[0])

    def states(self, start: int, stop: int) -> NDArray[np.float32]:
        """Input of the output layer, (token, hidden). Raise DamagedError."""
        hidden = self._arrays["hidden"]
        rows = int(hidden.chunks[0])
        first = start // rows
        if stop > (first + 1) * rows or stop <= start:
            return np.asarray(read(hidden, (slice(start, stop), slice(None))))
        held, chunk = self._held
        if held != first:
            chunk = read(hidden, (slice(first * rows, (first + 1) * rows), slice(None)))
            self._held = (first, chunk)
        return chunk[start - first * rows : stop - first * rows]


# -- representations -----------------------------------------------------------------------------


def _create_dense(
    store: DurableStore, path: str, n_tokens: int, vocab_size: int, layer: OutputLayer | None
) -> Array:
    return create_array(store, path, _dense_layout(n_tokens, vocab_size))


def _open_dense(store: Store, path: str, n_tokens: int, vocab_size: int) -> DenseLogProbs:
    return DenseLogProbs(expect(open_array(store, path), _dense_layout(n_tokens, vocab_size)))


def _create_factored(
    store: DurableStore, path: str, n_tokens: int, vocab_size: int, layer: OutputLayer | None
) -> Array:
    assert layer is not None
    create_group(store, path, {})
    # A bias of zeros and a scale of one are written too: a missing array is damage, never a choice.
    values = {
        "output_embedding": layer.weight,
        "output_bias": np.zeros(vocab_size, np.float32) if layer.bias is None else layer.bias,
        "logit_scale": np.array([layer.scale], np.float32),
    }
    layouts = _factor_layouts(n_tokens, vocab_size, layer.weight.shape[1])
    arrays = {name: create_array(store, f"{path}/{name}", layouts[name]) for name in layouts}
    for name, factor in values.items():
        write(arrays[name], (slice(None),), factor)
    return arrays["hidden"]


@dataclass(frozen=True)
class KeptAs:
    """One representation of a checkpoint's log-probs."""

    result: str  # what scoring makes of each token, and this array takes
    create: Callable[[DurableStore, str, int, int, OutputLayer | None], Array]
    open: Callable[[Store, str, int, int], LogProbs]  # of tokens and vocabulary; DamagedError
    projected_bytes: Callable[[int, int, int], float]  # on disk; of tokens, vocabulary, units
    # Its arrays by name below its path, each with its layout; of tokens, vocabulary, units.
    layouts: Callable[[int, int, int], Mapping[str, ArrayLayout]]
    has_factors: bool = False  # whether the output layer is kept too


REPRESENTATIONS: Mapping[str, KeptAs | None] = {
    "dense": KeptAs(
        result="log_probs",  # (token, vocab) float16
        create=_create_dense,
        open=_open_dense,
        projected_bytes=lambda tokens, vocab, units: _DENSE_BYTES * tokens * vocab,
        layouts=lambda tokens, vocab, units: {"": _dense_layout(tokens, vocab)},
    ),
    "factored": KeptAs(
        result="hidden",  # (token, hidden) float32
        create=_create_factored,
        open=FactoredLogProbs,
        projected_bytes=lambda tokens, vocab, units: _FACTORED_BYTES * (tokens + vocab) * units,
        layouts=_factor_layouts,
        has_factors=True,
    ),
    "none": None,  # reduced while scoring, nothing is kept
}
"""Every `Representation` by its name, in the order in which their sizes are listed."""


def create_log_probs(
    store: DurableStore,
    path: str,
    representation: Representation,
    shape: tuple[int, int],
    layer: OutputLayer | None,
) -> Mapping[str, Array]:
    """Make what holds one checkpoint's log-probs, (token, vocab); readers see it once committed.

    Return the array that takes the tokens, by the name of the result that goes there; nothing
    where nothing is kept. Raise ValueError for an output layer that is missing or not needed.
    """
    kept = REPRESENTATIONS[representation]
    if (kept is not None and kept.has_factors) != (layer is not None):
        raise ValueError("an output layer goes with factored log-probs, and with no others")
    return {} if kept is None else {kept.result: kept.create(store, path, *shape, layer)}


def log_prob_chunks(
    path: str, representation: str, shape: tuple[int, int], width: int
) -> dict[str, list[str]]:
    """Return the keys of the chunks of one checkpoint's log-probs, by name of the array.

    `width` is that of hidden states, where there are any.
    """
    kept = REPRESENTATIONS.get(representation)
    layouts = {} if kept is None else kept.layouts(*shape, width)
    return {
        name: chunk_keys(f"{path}/{name}" if name else path, made.shape, made.chunks)
        for name, made in layouts.items()
    }


def open_log_probs(
    store: Store, path: str, representation: str, shape: tuple[int, int]
) -> LogProbs:
    """Open committed log-probs, (token, vocab). Raise DamagedError when they cannot be read."""
    kept = REPRESENTATIONS.get(representation)
    if kept is None:
        raise DamagedError(f"{path}: log-probs kept as {representation!r}, unknown to this version")
    return kept.open(store, path, *shape)
