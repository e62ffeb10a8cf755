"""A conversation on the terminal: lines in, streamed answers out, commands that begin with a slash."""

import difflib
import json
import sys
from pathlib import Path

from xllm_cli.console import note, result

BLOCK = '"""'  # begins and ends a block of several lines
HELP = """\
/image PATH    show a picture          /clear        forget pictures and turns
/video PATH    show a film             /save FILE    keep this conversation
/audio PATH    ask a spoken question   /load FILE    go on with a saved one
/help          this list               /quit         leave (also Ctrl-D)
A line that ends with \\ goes on in the next; a block of lines stands between lines of three double quotes."""


class Terminal:
    """Reads turns from stdin, a terminal or a pipe, and answers them."""

    def __init__(self, talk, sampling, max_tokens: int, quiet: bool):
        self.talk, self.sampling, self.max_tokens = talk, sampling, max_tokens
        self.interactive = sys.stdin.isatty() and not quiet
        self.commands = {
            "/image": lambda path: self._attach("image", path),
            "/video": lambda path: self._attach("video", path),
            "/audio": lambda path: self._answer(None, Path(path)),
            "/clear": lambda _: talk.clear(),
            "/save": self._save,
            "/load": self._load,
            "/help": lambda _: note(HELP),
        }

    def run(self) -> None:
        """Until /quit or the end of the input."""
        from xllm.errors import XLLMError

        if self.interactive:
            try:
                import readline  # noqa: F401 - gives input() a history and editing
            except ImportError:
                pass  # Windows: input() edits by itself
            note("Ask away; /help lists the commands.")
        while True:
            try:
                text = self._read()
                if text is None or text.split()[:1] == ["/quit"]:
                    return
                if text.startswith("/"):
                    self._command(text)
                elif text:
                    self._answer(text)
            except XLLMError as error:
                note(f"error: {error}")
            except KeyboardInterrupt:
                note("\n(/quit or Ctrl-D leaves)")

    def _read(self) -> str | None:
        """One turn, which may be several lines; None at the end of the input."""
        lines: list[str] = []
        block = False
        while True:
            try:
                line = input(("... " if lines or block else "> ") if self.interactive else "")
            except EOFError:
                return "\n".join(lines) if lines else None
            if line.strip() == BLOCK:
                if block:
                    return "\n".join(lines)
                block = True
            elif block:
                lines.append(line)
            elif line.endswith("\\"):
                lines.append(line[:-1])
            else:
                return "\n".join([*lines, line]).strip()

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        argument = argument.strip()
        if name not in self.commands:
            near = difflib.get_close_matches(name, [*self.commands, "/quit"], n=1)
            note(f"error: no command {name}; " + (f"did you mean {near[0]}?" if near else "/help lists them"))
        elif not argument and name in ("/image", "/video", "/audio", "/save", "/load"):
            note(f"error: {name} needs a file")
        else:
            self.commands[name](argument)

    def _attach(self, name: str, path: str) -> None:
        self.talk.attach(name, Path(path).expanduser())

    def _answer(self, text: str | None, speech: Path | None = None) -> None:
        """Stream an answer; Ctrl-C ends it and keeps what was said."""
        pieces = self.talk.ask(text, self.sampling, self.max_tokens, speech and speech.expanduser())
        try:
            for piece in pieces:
                result(piece)
        except KeyboardInterrupt:
            pieces.close()
            note(" (interrupted)")
        result("\n")

    def _save(self, path: str) -> None:
        from xllm.errors import XLLMError
        from xllm.files import write_atomic

        try:
            write_atomic(Path(path).expanduser(), json.dumps(self.talk.state(), ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise XLLMError(f"{path}: cannot write there: {error.strerror}") from None

    def _load(self, path: str) -> None:
        from xllm.errors import XLLMError

        try:
            state = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise XLLMError(f"{path}: cannot read: {error.strerror}") from None
        except ValueError:
            raise XLLMError(f"{path}: not a saved conversation") from None
        self.talk.restore(state)
        for turn in self.talk.turns:
            result(f"> {turn['instruction']}\n{turn['response']}\n")
