"""How each task is asked (paper 3.2.3, A.1), and what a manifest's row asks for.

Five wordings a task. The first stands where the paper fixes one, in stage 2 and in recognition; stage 3 samples among
them.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from xllm.modalities import MODALITIES

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "image": (
        "请详细描述这张图片",
        "请仔细看图，说说图中的内容",
        "这张图片里有什么？请详细说明",
        "请用几句话描述你看到的画面",
        "请介绍一下这张图片",
    ),
    "video": (
        "请描述这段视频",
        "视频里发生了什么？",
        "请说说你在视频中看到了什么",
        "请按顺序讲述视频中的内容",
        "这段视频讲了什么？请详细说明",
    ),
    "asr": (
        "请忠实地识别语音",
        "请把这段语音转写成文字",
        "这段语音说了什么？请逐字写下来",
        "请听录音并写出其中的话",
        "请写出你听到的内容",
    ),
    "masr": (
        "请根据图片忠实地识别语音",
        "请结合图片，把这段语音转写成文字",
        "图片是这段语音的背景，请逐字写下语音的内容",
        "请看图听录音，并写出其中的话",
        "请参考图片，写出你听到的内容",
    ),
    "dialogue": (
        "请根据图片回答语音中的问题",
        "请听语音提问，并结合图片作答",
        "语音里问了一个关于图片的问题，请回答",
        "请看图回答我说的问题",
        "结合画面，回答录音中的提问",
    ),
    "spoken": ("请回答语音中的问题",),
}


class Request(NamedTuple):
    """What a row asks for: paths of its media by modality, the wordings of its instruction, and earlier turns."""

    media: dict[str, list[str]]
    wordings: tuple[str, ...]
    history: list[dict[str, str]]


def request(row: Mapping[str, Any], about: Collection[str]) -> Request | str:
    """The request of a sample to a stage that is about some modalities, or why it has none.

    An instruction of the row's own needs media, all of the row's, and its earlier turns. Without one, the task follows
    from the media: where there is speech the response is what is said, beside an image too; else it describes what is
    shown; text alone stands for speech. Media that the stage is not about, and earlier turns, are no part of it.
    """
    media = {name: [row[name]] if isinstance(row[name], str) else row[name] for name in MODALITIES if row.get(name)}
    used = {name: paths for name, paths in media.items() if name in about}
    if row.get("instruction"):
        if not media:
            return "its instruction is about no media, and text alone trains no interface"
        if left := [name for name in media if name not in used]:
            return f"its instruction is also about {left[0]}, which this stage is not"
        return Request(used, (row["instruction"],), row.get("history") or [])
    if "speech" in media:
        if "speech" not in about:
            return f"its response is what is said, and this stage is about {', '.join(about)}"
        heard = {name: paths for name, paths in used.items() if name in ("image", "speech")}
        return Request(heard, INSTRUCTIONS["masr" if "image" in heard else "asr"], [])
    if not media:
        return Request({}, INSTRUCTIONS["asr"], []) if "speech" in about else "no media"
    described = next(iter(used), None)
    if len(used) != 1 or described not in INSTRUCTIONS:
        return f"no instruction, and none of its own for {' and '.join(media)}"
    return Request(used, INSTRUCTIONS[described], [])
