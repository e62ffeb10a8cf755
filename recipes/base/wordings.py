"""What `base` is asked about images, in writing and aloud, what people say who name a thing, and names in sentences."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable

from xllm.instructions import INSTRUCTIONS
from xllm.text import normalize

OPEN = (  # what is it?
    *("这是什么？", "图中是什么？", "图片里有什么？", "请说出图中的东西", "你看到了什么？"),
    *("请问图里有什么？", "请问这是什么？", "这是什么东西？", "那是什么？", "图里是什么？"),
    *("图里有什么？", "图上是什么？", "图上有什么？", "图中有什么？", "图片里是什么？"),
    *("图片上有什么？", "这张图片里有什么？", "这张图里是什么？", "这张图上有什么东西？", "请问图中是什么？"),
    *("请问图片里有什么？", "你能看出这是什么吗？", "你知道这是什么吗？", "你认得这是什么吗？", "你看见了什么？"),
    *("你在图里看到了什么？", "你觉得这是什么？", "告诉我这是什么", "请告诉我图中是什么", "请告诉我图里有什么"),
    *("说说图里有什么", "说一说这是什么", "请说出这是什么", "请说出图中东西的名称", "这个东西叫什么？"),
    *("这叫什么？", "图里的东西叫什么？", "图中的东西叫什么名字？", "它叫什么？", "帮我看看这是什么"),
)
WHETHER = ("图中有{}吗？", "图里有{}吗？", "图片里有没有{}？", "请问图中有{}吗？")
YES, NO = "有", "没有"
DESCRIBED = "图中是{}。"
ALOUD = (*INSTRUCTIONS["dialogue"], *INSTRUCTIONS["spoken"])  # beside a question that is spoken; tests have the first
SAY = {  # sentences that name a thing; those of `dev` are of `train`
    "train": (
        *("{}", "我看到了{}", "这里有{}", "{}真好看", "请把{}给我", "他很喜欢{}", "那边是{}", "我们去看{}吧"),
        *("你见过{}吗", "妈妈说起了{}", "昨天我梦见了{}", "{}在哪里", "老师画了{}", "电视上有{}"),
    ),
    "test": (
        *("我想要{}", "图里画着{}", "谁有{}", "孩子们都爱{}", "你要不要{}", "{}是他的", "可惜没有{}", "还有一个{}"),
    ),
}


def whether(draw: random.Random, thing: str, shown: str) -> tuple[str, str]:
    """A question whether a thing is there, and its answer where an image shows `shown`."""
    return draw.choice(WHETHER).format(thing), YES if thing == shown else NO


def another(draw: random.Random, names: list[str], but: str) -> str:
    """One of several names that is not within `but`, and not the other way round.

    Raises IndexError when there is none.
    """
    return draw.choice([name for name in names if name not in but and but not in name])


def finder(names: Iterable[str]) -> Callable[[str], str | None]:
    """Finds a name in a text: the text itself, or else the longest name of two characters and more that it holds."""
    known = set(names)
    by_first: dict[str, list[str]] = defaultdict(list)
    for name in sorted(known, key=lambda name: (-len(name), name)):
        if len(name) > 1:
            by_first[name[0]].append(name)

    def find(text: str) -> str | None:
        text = normalize(text)
        if text in known:
            return text
        held = (name for at, c in enumerate(text) for name in by_first.get(c, ()) if text.startswith(name, at))
        return max(held, key=len, default=None)

    return find
