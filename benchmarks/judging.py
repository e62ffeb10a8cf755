"""How long 90 reviews take against a local server of fixed latency, as a ratio to what that latency allows.

python benchmarks/judging.py [--latency 0.5] [--concurrency 8]
"""

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llava_data import answers_file, llava_data, rate
from openai_server import OpenAIServer

from xllm.endpoint import Endpoint
from xllm.evaluation.llava_files import read_data
from xllm.evaluation.llava_test import Judge, Run

QUESTIONS = 90


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--latency", type=float, default=0.5, help="seconds of each reply")
    options.add_argument("--concurrency", type=int, default=8)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, OpenAIServer(rate, latency=given.latency) as server:
        root = Path(folder)
        items, rules = read_data(llava_data(root / "data", QUESTIONS))
        with Run(root / "run", items) as run:
            answers = run.given(answers_file(root / "answers.jsonl", QUESTIONS)).texts
            started = time.perf_counter()

            def endpoint() -> Endpoint:
                return Endpoint(root / "replies", server.url, "any-key", concurrency=given.concurrency)

            reviews, failures = run.reviews(answers, rules, endpoint, Judge("judge"))
            took = time.perf_counter() - started
        ideal = math.ceil(QUESTIONS / given.concurrency) * given.latency
        print(f"{len(reviews)} reviews, {len(failures)} failed, concurrency {given.concurrency}")
        print(f"{took:.2f} s, {took / ideal:.2f} times the ideal {ideal:.2f} s")


if __name__ == "__main__":
    main()
