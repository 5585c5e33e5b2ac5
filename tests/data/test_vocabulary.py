import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalargrad.data import Vocabulary, names


def test_numbering():
    vocabulary = Vocabulary.of(["emma", "ava"])
    assert vocabulary.characters == "aemv"
    assert vocabulary.bos == 4
    assert len(vocabulary) == 5
    assert vocabulary.encode("emma") == [4, 1, 2, 2, 0, 4]
    assert vocabulary.encode("") == [4, 4]
    assert repr(vocabulary) == "Vocabulary(characters='aemv')"


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1).filter(any))
def test_decoding_undoes_encoding(texts):
    vocabulary = Vocabulary.of(texts)
    for text in texts:
        tokens = vocabulary.encode(text)
        assert len(tokens) == len(text) + 2
        assert all(0 <= token < len(vocabulary) for token in tokens)
        assert vocabulary.decode(tokens) == text
        assert vocabulary.decode(np.array(tokens)) == text


def test_the_real_names_have_26_letters(shared_data):
    vocabulary = Vocabulary.of(names(shared_data / "names.txt"))
    assert vocabulary.characters == "abcdefghijklmnopqrstuvwxyz"
    assert len(vocabulary) == 27


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies_are_equal_and_work(copied):
    vocabulary = Vocabulary("ab")
    again = copied(vocabulary)
    assert again == vocabulary
    assert again.encode("ba") == [2, 1, 0, 2]


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Vocabulary("ab").characters = "abc"


@pytest.mark.parametrize("characters", ["", "aba"])
def test_characters_are_some_and_distinct(characters):
    with pytest.raises(ValueError, match=rf"^characters is '{characters}': expected at least one"):
        Vocabulary(characters)


def test_an_unknown_character_is_named():
    with pytest.raises(ValueError, match=r"^text is 'abc': 'c' is not among the characters 'ab'"):
        Vocabulary("ab").encode("abc")


@pytest.mark.parametrize("token", [-1, 3])
def test_an_unknown_token_is_named(token):
    with pytest.raises(ValueError, match=rf"^tokens holds {token}: expected numbers from 0 to 2"):
        Vocabulary("ab").decode([0, token])
