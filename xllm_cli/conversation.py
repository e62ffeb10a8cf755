"""A conversation on the terminal: lines in, streamed answers out, commands that begin with a slash."""

import difflib
import json
import os
import sys
from pathlib import Path

from xllm_cli.console import note, result

BLOCK = '"""'  # begins and ends a block of several lines
HELP = """\
/image PATH    show a picture          /clear        forget pictures and turns
/video PATH    show a film             /save FILE    keep this conversation
/audio PATH    ask a spoken question   /load FILE    go on with a saved one
/help          this list               /quit         leave (also Ctrl-D)
A line that ends with \\ goes on in the next; a block of lines stands between lines of three double quotes.
Ctrl-C stops an answer."""
LEAVE = "/quit or Ctrl-D leaves"
ENCODING = "a question must be text in UTF-8; convert it, with iconv for example"


def as_text(text: str) -> str:
    """`text` again; raises ConfigError when it holds bytes of another encoding, which Python smuggles in."""
    from xllm.errors import ConfigError

    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(ENCODING) from None
    return text


def read_text() -> str:
    """All of stdin; raises ConfigError when it is no text."""
    from xllm.errors import ConfigError

    try:
        return as_text(sys.stdin.read())
    except UnicodeDecodeError:
        raise ConfigError(ENCODING) from None


def _edit_lines() -> None:
    """Give input() a history, editing, and names of files on the Tab key."""
    try:
        import readline
    except ImportError:
        return  # Windows: input() edits by itself
    readline.set_completer_delims(" \t\n")
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")


def _notes(lines: str) -> None:
    for line in lines.split("\n"):
        note(line)


def _home(path: str) -> Path:
    return Path(os.path.expanduser(path))


class Terminal:
    """Reads turns from stdin, a terminal or a pipe, and answers them."""

    def __init__(self, talk, sampling, max_tokens: int, transcript: bool, quiet: bool):
        self.talk, self.sampling, self.max_tokens, self.transcript = talk, sampling, max_tokens, transcript
        self.interactive = sys.stdin.isatty()
        self.quiet = quiet or not self.interactive
        self.commands = {
            "/image": lambda path: self._attach("image", path),
            "/video": lambda path: self._attach("video", path),
            "/audio": lambda path: self._answer(None, path),
            "/clear": lambda _: self._clear(),
            "/save": self._save,
            "/load": self._load,
            "/help": lambda _: _notes(HELP),
        }

    def run(self) -> bool:
        """Until /quit or the end of the input; whether all turns went well. Ctrl-C does not end it, but ends a pipe."""
        from xllm.errors import XLLMError

        if self.interactive:
            _edit_lines()
        self._tell("Ask away; /help lists the commands.")
        well = True
        while True:
            try:
                if (turn := self._read()) is None:
                    return well
                text, block = turn
                if text.startswith("/") and not block:
                    if text.split()[0] == "/quit":
                        return well
                    self._command(text)
                elif text:
                    self._answer(text)
            except XLLMError as error:
                note(f"error: {error}")
                well = False
            except UnicodeDecodeError:
                note(f"error: {ENCODING}")
                well = False
                if not self.interactive:
                    return well  # what follows may belong to the same question
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                _notes(f"\n({LEAVE})")

    def _tell(self, message: str) -> None:
        """What only helps a person who types."""
        if not self.quiet:
            _notes(message)

    def _line(self, prompt: str) -> str:
        if self.quiet:
            prompt = ""
        elif not sys.stdout.isatty():  # input() would write it into the results
            print(prompt, end="", file=sys.stderr, flush=True)
            prompt = ""
        return input(prompt)

    def _read(self) -> tuple[str, bool] | None:
        """One turn, which may be several lines, and whether it was a block; None at the end of the input."""
        lines: list[str] = []
        block = False
        while True:
            try:
                line = self._line("... " if lines or block else "> ")
            except EOFError:
                self._tell("")
                if not lines:
                    return None
                break
            if line.strip() == BLOCK:
                if block:
                    break
                block = True
            elif block:
                lines.append(line)
            elif line.endswith("\\"):
                lines.append(line[:-1])
            else:
                lines.append(line)
                break
        return as_text("\n".join(lines).strip()), block

    def _command(self, text: str) -> None:
        from xllm.errors import ConfigError

        name, *rest = text.split(maxsplit=1)
        argument = rest[0].strip() if rest else ""
        if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\"":  # as terminals drop files
            argument = argument[1:-1]
        if name not in self.commands:
            near = difflib.get_close_matches(name.lower(), [*self.commands, "/quit"], n=1)
            raise ConfigError(f"no command {name}; " + (f"did you mean {near[0]}?" if near else "/help lists them"))
        if not argument and name in ("/image", "/video", "/audio", "/save", "/load"):
            raise ConfigError(f"{name} needs a file: {name} PATH")
        self.commands[name](argument)

    def _attach(self, name: str, path: str) -> None:
        self.talk.attach(name, _home(path))
        self._tell(f"(sees {path})")

    def _clear(self) -> None:
        self.talk.clear()
        self._tell("(all forgotten)")

    def _answer(self, text: str | None, path: str | None = None) -> None:
        """Stream an answer; Ctrl-C ends it and keeps what was said."""
        speech = _home(path) if path else None
        pieces = self.talk.ask(text, self.sampling, self.max_tokens, speech)
        try:
            for piece in pieces:
                result(piece)
        except KeyboardInterrupt:
            result("\n")
            pieces.close()
            if not self.interactive:
                raise
            note("(interrupted)")
            return
        result("\n")
        if speech and self.transcript:
            note(f"heard: {self.talk.heard(speech)}")

    def _save(self, path: str) -> None:
        from xllm.errors import XLLMError
        from xllm.files import write_atomic

        try:
            write_atomic(_home(path), json.dumps(self.talk.state(), ensure_ascii=False, indent=2) + "\n")
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise XLLMError(f"{path}: cannot write there: {getattr(error, 'strerror', None) or error}") from None
        self._tell(f"(saved; /load {path} goes on with it)")

    def _load(self, path: str) -> None:
        from xllm.errors import ConfigError, XLLMError

        try:
            state = json.loads(_home(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise XLLMError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ConfigError(f"{path}: not a saved conversation") from None
        try:
            self.talk.restore(state)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        for name, shown in self.talk.files:
            self._tell(f"/{name} {shown}")
        for turn in self.talk.turns:
            self._tell(f"> {turn['instruction']}\n{turn['response']}")
