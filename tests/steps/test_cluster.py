"""On a Ray cluster: the same manifests as one process, errors told, nothing lost."""

import json
import os

import pytest

from xllm.errors import XLLMError
from xllm.steps.run import run

ray = pytest.importorskip("ray")


class Shout:
    """Tells which process it ran in."""

    def __call__(self, rows):
        return [row | {"response": row["response"].upper(), "process": os.getpid()} for row in rows]


class Quiet(Shout):
    def __call__(self, rows):
        return [{key: row[key] for key in ("id", "response")} for row in super().__call__(rows)]


class Fails:
    def __call__(self, rows):
        raise XLLMError("the model is not there")


def numbers(count=3000):
    yield from ({"id": str(number), "response": "a" * (number % 7)} for number in range(count))


@pytest.fixture(scope="module")
def mapper():
    from xllm.steps.cluster import cluster

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield cluster("local", 2)
    ray.shutdown()


def test_two_workers_write_what_one_process_writes(mapper, tmp_path):
    for name, how in (("one", {}), ("cluster", {"mapper": mapper})):
        run(numbers, tmp_path / name / "x.jsonl", {}, Quiet(), chunk=100, **how)
    for kind in ("jsonl", "dropped.jsonl", "report.json"):
        assert (tmp_path / "cluster" / f"x.{kind}").read_bytes() == (tmp_path / "one" / f"x.{kind}").read_bytes()
    run(numbers, tmp_path / "who.jsonl", {}, Shout(), chunk=100, mapper=mapper)
    who = {json.loads(line)["process"] for line in (tmp_path / "who.jsonl").read_text().splitlines()}
    assert len(who) == 2, "both took part"


def test_what_goes_wrong_is_raised(mapper, tmp_path):
    with pytest.raises(XLLMError, match="the model is not there"):
        run(numbers, tmp_path / "x.jsonl", {}, Fails(), mapper=mapper)

    def cut():
        yield from numbers(500)
        raise XLLMError("the disk is gone")

    with pytest.raises(XLLMError, match="the disk is gone"):
        run(cut, tmp_path / "y.jsonl", {}, Quiet(), mapper=mapper)
    assert run(numbers, tmp_path / "y.jsonl", {}, Quiet(), mapper=mapper).kept == 3000, "and goes on"
