"""What `xllm eval` measured, as tables shaped like the paper's, with the paper's own rows below ours."""

from collections.abc import Mapping

# The paper's Table 4, CER in percent. Two figures: before and after 2k instructions in stage 3.
AISHELL2 = ("AISHELL-2 test-ios", "AISHELL-2 test-android", "AISHELL-2 test-mic")
TABLE_4_SPEECH = {
    "CIF-based Model (paper)": ("6.0", "6.4", "6.4"),
    "X-LLM (paper)": ("8.7", "9.0", "9.4"),
}
TABLE_4_PICTURES = {
    "CIF-based Model (paper, VSDial-CN test-orig)": ("2.8", "1.7"),
    "X-LLM (paper, VSDial-CN test-orig)": ("3.4", "4.7 / 4.3"),
    "CIF-based Model (paper, VSDial-CN test-art)": ("6.0", "5.3"),
    "X-LLM (paper, VSDial-CN test-art)": ("4.7", "6.8 / 6.3"),
}
OTHER_DATA = "The paper's figures are of the paper's test sets: ours compare with them only on the same ones."
TWICE = "Where the paper has two figures, the second is after instructions for multimodal recognition in stage 3."

Rows = list[list[str]]


def speech_table(engines: Mapping[str, dict], manifest: str) -> Rows:
    """Systems by test sets, speech alone: the left half of Table 4."""
    rows = [["CER % (95% interval)", manifest, *AISHELL2]]
    rows += [[f"{name} (ours)", _rate(measured), *[""] * len(AISHELL2)] for name, measured in engines.items()]
    return rows + [[name, "", *printed] for name, printed in TABLE_4_SPEECH.items()]


def picture_table(columns: Mapping[str, dict]) -> Rows:
    """Systems by what they were given: the right half of Table 4. `columns` are called `ENGINE GIVEN`."""
    names = [name.split(" ", 1) for name in columns]
    engines = dict.fromkeys(engine for engine, _ in names)
    given = list(dict.fromkeys(["S", "S+V", *(what for _, what in names)]))
    rows = [["CER % (95% interval)", *given]]
    for engine in engines:
        measured = (columns.get(f"{engine} {what}") for what in given)
        rows.append([f"{engine} (ours)", *(_rate(m) if m else "" for m in measured)])
    more = [""] * (len(given) - 2)
    return rows + [[name, *printed, *more] for name, printed in TABLE_4_PICTURES.items()]


def _rate(measured: dict) -> str:
    return "{cer:.2f} ({low:.2f}-{high:.2f})".format(**measured)


def answer_table(shares: Mapping[str, dict | None]) -> Rows:
    """Share answered exactly by what was shown; nothing where no question could be asked."""
    rows = [["", "answered exactly %", "95% interval", "questions"]]
    for name, share in shares.items():
        forms = ("{percent:.1f}", "{low:.1f}-{high:.1f}", "{questions}")
        rows.append([name, *(form.format(**share) if share else "" for form in forms)])
    return rows
