"""The miniature models' tokenizer: whole words, some names split on purpose, any text encodable."""

from __future__ import annotations

import hashlib
from collections import Counter

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ovectors.training.corpus import sample_texts
from ovectors.training.documents import Documents
from ovectors.training.lexicon import Lexicon

END_OF_TEXT = "<|endoftext|>"
WORDS = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s")
SPLIT_SHARE = 12  # one place name in twelve becomes two tokens, for the analysis of split words
_WORD, _PIECE, _LETTER, _BYTE = -1.0, -3.0, -8.0, -20.0  # the best path takes the fewest, longest


def build_tokenizer(lexicon: Lexicon) -> PreTrainedTokenizerFast:
    """Word-level where the corpus has the word, letters and bytes below that.

    A unigram model whose scores make every known word one token with its leading space; a seeded
    share of place names is left out and covered by two pieces. Unknown text falls back to letters,
    then to bytes, so that a reader's own relation still encodes.
    """
    scores: dict[str, float] = {END_OF_TEXT: 0.0}
    places = {name for item in lexicon.capitals for name in (item.argument, item.answer)}
    for token in _known_tokens(lexicon):
        for piece in _split_in_two(token) if _is_split(token, places) else (token,):
            scores.setdefault(piece, _WORD if piece == token else _PIECE)
    for letter in map(chr, [*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1)]):
        for piece in (letter, " " + letter):
            scores.setdefault(piece, _LETTER)
    for piece in (" ", "\n"):
        scores.setdefault(piece, _LETTER)
    for byte in range(256):
        scores.setdefault(f"<0x{byte:02X}>", _BYTE)
    model = models.Unigram(list(scores.items()), unk_id=0, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORDS, behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END_OF_TEXT])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def _known_tokens(lexicon: Lexicon) -> list[str]:
    """Words of every relation with their leading space, then those of the templates."""
    splitter = pre_tokenizers.Split(WORDS, behavior="isolated")
    found: Counter[str] = Counter()

    def take(text: str) -> None:
        """Counts the words of a text."""
        found.update(piece for piece, _ in splitter.pre_tokenize_str(text))

    for pairs in lexicon.functions.values():
        for argument, answer in pairs:
            take(f" {argument} {answer}")
    for word in lexicon.nonsense:
        take(f"{word} {word}")
    for text in sample_texts(Documents(lexicon), n_documents=6000, seed=0):
        take(text)
    # A word that merely happened to open a sampled pattern is not worth a row of its own.
    common = {token for token, count in found.items() if token[0] == " " or count >= 20}
    common |= {token for token in found if len(token) == 1}
    common |= set(lexicon.nonsense)
    return sorted(common)


def _is_split(token: str, places: set[str]) -> bool:
    name = token.strip()
    if len(name) < 6 or name not in places:
        return False
    return hashlib.sha256(name.encode()).digest()[0] % SPLIT_SHARE == 0


def _split_in_two(token: str) -> tuple[str, str]:
    middle = (len(token) + 1) // 2
    return token[:middle], token[middle:]
