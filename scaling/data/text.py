"""Text as windows of tokens, a character each; whole files are held out where there are many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.config import TextConfig
from scaling.data.text_files import KEY, read_texts
from scaling.limits import ConfigError, check_limits

Tokens = NDArray[np.uint8]
UNKNOWN = "\ufffd"  # stands for every character that is not in the vocabulary


@dataclass
class Text:
    """train and held_out: uint8 [N, L + 1], L = sequence_length.

    The last token of a window is the first of the next, so that each is predicted once. vocabulary:
    the character of each token, the last of them UNKNOWN. unknown_fraction: of the held-out tokens.
    content_hash: of the tokens and the vocabulary, wherever the files lay.
    """

    train: Tokens
    held_out: Tokens
    vocabulary: str
    n_files: int
    unknown_fraction: float
    content_hash: str


def read_text(config: TextConfig) -> Text:
    """Read, split, encode. ConfigError, one line, for what cannot be read or is too short."""
    check_limits(config, "data.")
    texts = read_texts(config.path, config.max_characters)
    train, held_out = split_texts(texts, config.held_out_fraction)
    vocabulary = vocabulary_of(train, config.vocabulary_size)
    windows = [
        windows_of(encode(text, vocabulary), config.sequence_length) for text in (train, held_out)
    ]
    for name, text, made in zip(("training", "held-out"), (train, held_out), windows, strict=True):
        if not len(made):
            allowed = f"its {name} part has {len(text)} characters; a sequence takes "
            allowed += f"{config.sequence_length + 1} (data.sequence_length and the one after it)"
            raise ConfigError(KEY, config.path, allowed)
    spread = np.linspace(0, len(windows[1]) - 1, min(len(windows[1]), config.held_out_sequences))
    kept = windows[1][spread.round().astype(int)]
    unknown = float((kept == len(vocabulary) - 1).mean())
    digest = _content_hash(windows[0], kept, vocabulary)
    return Text(windows[0], kept, vocabulary, len(texts), unknown, digest)


def split_texts(texts: Sequence[str], fraction: float) -> tuple[str, str]:
    """(training, held out): every k-th file whole, k = 1 / fraction rounded, so that no file stands
    on both sides; of fewer than k files the last part of each."""
    every = max(2, round(1 / fraction))
    if len(texts) >= every:
        train = [text for i, text in enumerate(texts) if i % every != every - 1]
        return "\n".join(train), "\n".join(texts[every - 1 :: every])
    cuts = [len(text) - round(fraction * len(text)) for text in texts]
    pairs = list(zip(texts, cuts, strict=True))
    return "\n".join(text[:cut] for text, cut in pairs), "\n".join(t[cut:] for t, cut in pairs)


def vocabulary_of(text: str, size: int) -> str:
    """The `size` most frequent characters by their code points, and UNKNOWN."""
    points, counts = np.unique(_points(text), return_counts=True)
    frequent = points[np.lexsort((points, -counts))[:size]]
    return "".join(map(chr, sorted(frequent.tolist()))).replace(UNKNOWN, "") + UNKNOWN


def encode(text: str, vocabulary: str) -> Tokens:
    """The token of each character, uint8 [len(text)]; of those not in the vocabulary its last."""
    known, points = _points(vocabulary[:-1]), _points(text)
    if not len(known):
        return np.zeros(len(points), np.uint8)
    places = np.searchsorted(known, points).clip(max=len(known) - 1)
    return np.where(known[places] == points, places, len(known)).astype(np.uint8)


def decode(tokens: Sequence[int], vocabulary: str) -> str:
    """The characters of tokens: the inverse of `encode` for text of known characters."""
    return "".join(vocabulary[token] for token in tokens)


def windows_of(tokens: Tokens, length: int) -> Tokens:
    """[N, length + 1] from the start on, each beginning at the last token of the one before; a rest
    is left out."""
    n_windows = max(0, (len(tokens) - 1) // length)
    rows = np.arange(n_windows)[:, None] * length + np.arange(length + 1)
    return tokens[rows]


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _content_hash(train: Tokens, held_out: Tokens, vocabulary: str) -> str:
    digest = hashlib.sha256(vocabulary.encode("utf-8", "surrogatepass"))
    for array in (train, held_out):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
