"""Texts as the pieces of words that BERT knows [Devlin et al., 2018; Wu et al., 2016].

The rules are those of BERT's own ``tokenization.py``: words end at blanks, and punctuation and
Chinese characters are words of their own; a word is cut, from its beginning, into the longest
pieces that the vocabulary has.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence

from ._strings import Unreadable

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_WORD_CHARS_MAX = 100
_WORDS_KEPT = 1 << 16
#: Blocks of CJK ideographs; kana and hangul are written with blanks or as parts of words.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class _Characters(dict[int, str]):
    """What stands for each character, as `str.translate` asks; found when it is first met."""

    def __init__(self, lowercase: bool) -> None:
        super().__init__()
        self._lowercase = lowercase

    def __missing__(self, code: int) -> str:
        self[code] = found = self._of(chr(code), code)
        return found

    def _of(self, char: str, code: int) -> str:
        kind = unicodedata.category(char)
        if char in "\t\n\r" or kind == "Zs":
            return " "
        if kind[0] == "C" or code == 0xFFFD or (self._lowercase and kind == "Mn"):
            return ""
        apart = char in _ASCII_PUNCTUATION or kind[0] == "P"
        if apart or any(first <= code <= last for first, last in _IDEOGRAPHS):
            return f" {char} "
        return char


class WordPieces:
    """The pieces of a vocabulary.

    Parameters
    ----------
    vocabulary : sequence of str
        The pieces in the order of their ids; those within a word begin with ``##``.
    lowercase : bool
        Whether letters are taken as small ones without accents.

    Raises
    ------
    Unreadable
        If the vocabulary lacks one of the four pieces that are no text.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool) -> None:
        self._ids: Mapping[str, int] = {piece: i for i, piece in enumerate(vocabulary)}
        for piece in (PAD, UNKNOWN, BEGIN, END):
            if piece not in self._ids:
                raise Unreadable(f"the vocabulary has no {piece}: it is not BERT's")
        self._lowercase = lowercase
        self._characters = _Characters(lowercase)
        self.pad = self._ids[PAD]
        self._unknown = [self._ids[UNKNOWN]]
        self._begin, self._end = self._ids[BEGIN], self._ids[END]
        self._of_word = functools.lru_cache(_WORDS_KEPT)(self._cut)

    def words(self, text: str) -> list[str]:
        """Give the words of a text."""
        if self._lowercase:
            text = unicodedata.normalize("NFD", text.lower())
        return text.translate(self._characters).split()

    def ids(self, text: str) -> list[int]:
        """Give the ids of a text's pieces."""
        return [i for word in self.words(text) for i in self._of_word(word)]

    def encode(self, text: str, pair: str | None, most: int) -> tuple[list[int], int]:
        """Give the ids of a text, or two, between the pieces that mark beginning and ends.

        Parameters
        ----------
        text, pair : str
        most : int
            The largest number of ids. What is beyond it is cut off at the end, of two texts
            always of the longer one.

        Returns
        -------
        ids : list of int
        first : int
            How many of them belong to the first text, with its marks.
        """
        one = self.ids(text)
        if pair is None:
            one = [self._begin, *one[: most - 2], self._end]
            return one, len(one)
        two = self.ids(pair)
        room = most - 3
        first = min(len(one), max(room - len(two), -(-room // 2)))
        one = [self._begin, *one[:first], self._end]
        two = two[: room - first]
        return [*one, *two, self._end], len(one)

    def _cut(self, word: str) -> list[int]:
        """Give the ids of a word's pieces."""
        if len(word) > _WORD_CHARS_MAX:
            return self._unknown
        found: list[int] = []
        begin = 0
        while begin < len(word):
            head = "##" if begin else ""
            for end in range(len(word), begin, -1):
                piece = self._ids.get(head + word[begin:end])
                if piece is not None:
                    found.append(piece)
                    begin = end
                    break
            else:
                return self._unknown
        return found
