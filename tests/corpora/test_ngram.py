"""Text drawn from a trigram model holds what the model has seen, and is drawn again alike."""

from itertools import islice

import pytest

from xllm.corpora.ngram import Trigrams, stretches
from xllm.errors import ManifestError

ARPA = """\\data\\
ngram 1=4

\\1-grams:
-0.5\t我们\t-0.2
-0.5\t学习\t-0.2
-0.9\t中文\t-0.2
-2.0\t鬱\t0

\\2-grams:
-0.1\t我们 学习\t-0.1
-0.2\t学习 中文\t0
-0.3\t学习 鬱\t0

\\3-grams:
-0.05\t我们 学习 中文

\\end\\
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA, encoding="utf-8")
    return Trigrams(tmp_path / "lm.arpa", set("我们学习中文").issuperset)


def test_words_that_are_not_usable_are_left_out_of_every_order(model):
    assert model.words == ["我们", "学习", "中文"]
    assert model.successors[(1,)][0] == [2] and model.successors[(0, 1)][0] == [2]


def test_stretches_follow_the_model_and_the_seed(model):
    drawn = list(islice(stretches(model, set("我们学习中文"), range(6, 7)), 300))
    assert all(len(text) == 6 for text in drawn)
    assert sum("我们学习" in text for text in drawn) > 0.7 * sum("我们" in text[:4] for text in drawn)
    assert drawn == list(islice(stretches(model, set("我们学习中文"), range(6, 7)), 300))


def test_words_outside_the_favoured_characters_are_rarer(model):
    def share(favoured):
        text = "".join(islice(stretches(model, set(favoured), range(6, 9)), 300))
        return text.count("中文") / len(text)

    assert share("我们学习") < 0.75 * share("我们学习中文")


def test_what_is_no_arpa_is_one_line(tmp_path):
    (tmp_path / "x.arpa").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="x.arpa"):
        Trigrams(tmp_path / "x.arpa", lambda word: True)
    with pytest.raises(ManifestError, match="gone.arpa"):
        Trigrams(tmp_path / "gone.arpa", lambda word: True)
