"""No terminal code, no line that nobody wrote, and no result lost to an encoding."""

import json
import os
import subprocess
import sys

import pytest

from xllm_cli.escape import one_line, to_json

ODD = "a\nb\t\x1b[31mc\x7f\x9bd\u2028\u202ee\udce9"


def test_one_line():
    assert one_line(ODD) == r"a\nb\t\x1b[31mc\x7f\x9bd\u2028\u202ee\udce9"
    assert one_line("龟 é　'\"\\ 😀") == "龟 é　'\"\\ 😀", "what can be shown is shown"


def test_json_is_safe_and_says_the_same():
    for indent in (None, 2):
        text = to_json({"path": ODD, "text": "龟"}, indent)
        assert json.loads(text) == {"path": ODD, "text": "龟"} and "龟" in text
        assert one_line(text) == text.replace("\n", "\\n") and text.count("\n") == (3 if indent else 0)


def printed(text: str, encoding: str) -> tuple[bytes, str]:
    """What reaches stdout of that encoding, and stderr."""
    code = f"from xllm_cli.console import *; accept_all_characters(); result({text!r}); result({text!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    "encoding, shown, said",
    [("ascii", rb"\u9f9f\ud83d\ude00", 1), ("gbk", "龟".encode("gbk") + rb"\ud83d\ude00", 1), ("utf-8", None, 0)],
)
def test_characters_that_stdout_lacks_are_escaped_and_that_is_said_once(encoding, shown, said):
    out, err = printed("龟😀", encoding)
    assert out == 2 * (shown or "龟😀".encode())
    assert err.count("\n") == said and (not said or f"stdout is in {encoding}" in err)
    assert json.loads(b'"' + out[: len(out) // 2] + b'"' if encoding == "ascii" else '"龟😀"') == "龟😀"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_disk_behind_stdout_is_one_line():
    code = "import sys; sys.argv[1:] = ['doctor', '--json']; from xllm_cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (done.returncode, done.stderr) == (1, "error: stdout cannot be written: No space left on device\n")
