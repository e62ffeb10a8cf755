"""The files of LLaVA-test are found where people put them, under the names that they have there."""

import pytest
from llava_data import llava_data

from xllm.errors import ConfigError
from xllm.evaluation.llava_files import FILES, find_data, find_image, find_image_folder, image_names, read_data


def test_an_image_has_llavas_name_or_cocos(tmp_path):
    ours, cocos = "000000441147.jpg", "COCO_val2014_000000441147.jpg"
    assert image_names(ours) == (ours, cocos) and image_names(cocos) == (cocos, ours)
    assert find_image(tmp_path, ours) is None
    (tmp_path / cocos).touch()
    assert find_image(tmp_path, ours) == find_image(tmp_path, cocos) == tmp_path / cocos
    (tmp_path / ours).touch()
    assert find_image(tmp_path, ours) == tmp_path / ours and find_image(tmp_path, cocos) == tmp_path / cocos


def test_data_are_here_or_in_llava_test(tmp_path):
    assert find_data(tmp_path) is None
    inside = llava_data(tmp_path / "llava_test")
    assert find_data(tmp_path) == find_data(inside) == inside


def test_images_are_beside_the_data_or_here(tmp_path):
    data, here = tmp_path / "data", tmp_path / "here"
    with pytest.raises(ConfigError, match="no images: .*data/images.*here/val2014.*give --images.*cocodataset"):
        find_image_folder(data, here)
    for place in (here / "val2014", here / "images", data / "val2014", data / "images"):  # the later, the nearer
        place.mkdir(parents=True)
        assert find_image_folder(data, here) == place


def test_all_missing_files_are_named_at_once(tmp_path):
    data = llava_data(tmp_path / "data")
    for name in list(FILES)[1:]:
        (data / name).unlink()
    with pytest.raises(ConfigError, match="lacks qa90_gpt4_answer.jsonl, caps_boxes_coco2014_val_80.jsonl, rule.json;"):
        read_data(data)
