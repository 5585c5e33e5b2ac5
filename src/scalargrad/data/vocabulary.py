"""Characters as numbers, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a character-level model: its characters, and one that marks either end.

    Token i is `characters[i]`; the last token, `bos`, stands before the first character and after
    the last one, so that a model learns where to begin and where to stop. This is microgpt's
    numbering when made by `Vocabulary.of(names)`.

    Args:
        characters: the characters in order, none twice.

    Raises:
        ValueError: `characters` is empty or repeats one.
    """

    characters: str
    _tokens: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the characters and number them."""
        tokens = {character: token for token, character in enumerate(self.characters)}
        if not tokens or len(tokens) < len(self.characters):
            raise ValueError(
                f"characters is {self.characters!r}: expected at least one character, none twice"
            )
        object.__setattr__(self, "_tokens", tokens)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """The vocabulary of every character in `texts`, sorted by code point."""
        return cls("".join(sorted({character for text in texts for character in text})))

    @property
    def bos(self) -> int:
        """The token that begins and ends every sequence."""
        return len(self.characters)

    def __len__(self) -> int:
        """Number of tokens: the characters and `bos`."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """`text` as tokens between two `bos`: len(text) + 2 of them.

        Raises:
            ValueError: a character of `text` is not in the vocabulary.
        """
        unknown = sorted(set(text).difference(self._tokens))
        if unknown:
            raise ValueError(
                f"text is {text!r}: {unknown[0]!r} is not among the characters "
                f"{self.characters!r}; make the vocabulary of all texts it is to encode"
            )
        return [self.bos, *(self._tokens[character] for character in text), self.bos]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text that `tokens` spell, `bos` left out: `decode(encode(text)) == text`.

        Raises:
            ValueError: a token is not a number from 0 to `bos`.
        """
        return "".join(self._character(token) for token in tokens)

    def _character(self, token: int) -> str:
        if not 0 <= token <= self.bos:
            raise ValueError(f"tokens holds {token}: expected numbers from 0 to {self.bos}")
        return "" if token == self.bos else self.characters[token]
