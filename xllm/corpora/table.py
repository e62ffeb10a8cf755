"""The table of corpora, in the order of the paper's stages. `xllm prepare-data --list` prints it."""

from xllm.corpora import (
    activitynet,
    ai_challenger,
    aishell1,
    aishell2,
    cc3m,
    coco,
    flickr30k,
    flickr30k_cn,
    llava,
    minigpt4,
    msr_vtt,
    sbu,
    visdial,
    visual_genome,
    wukong,
)
from xllm.corpora.corpus import Corpus

_CONVERTERS = (
    aishell1,
    aishell2,
    visdial,
    cc3m,
    coco,
    visual_genome,
    flickr30k,
    flickr30k_cn,
    sbu,
    ai_challenger,
    wukong,
    msr_vtt,
    activitynet,
    minigpt4,
    llava,
)
CORPORA: dict[str, Corpus] = {module.CORPUS.name: module.CORPUS for module in _CONVERTERS}
