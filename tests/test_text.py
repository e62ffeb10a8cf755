"""The written form, and how it is read."""

import pytest

from xllm.text import normalize, reading


@pytest.mark.parametrize(
    "text, plain",
    [
        ("你好，世界！", "你好世界"),
        ("Ｈｅｌｌｏ World", "helloworld"),
        ("１２３ 三", "123三"),
        ("“嗯……”——他说。", "嗯他说"),
        ("", ""),
        ("a_b", "ab"),
        ("①", "1"),
    ],
)
def test_normalize(text, plain):
    assert normalize(text) == plain
    assert normalize(plain) == plain


@pytest.mark.parametrize(
    "text, syllables",
    [
        ("城区的房价很高。", "cheng2 qu1 de5 fang2 jia4 hen3 gao1"),
        ("银行行长", "yin2 hang2 hang2 zhang3"),
        ("绿女", "lv4 nv3"),
        ("好abc", None),
        ("3", None),
        ("", None),
    ],
)
def test_reading(text, syllables):
    assert reading(text) == syllables
