"""A command in several processes that train as one: torchrun's agent, with one line and one exit code for what fails.

A process that fails leaves its message in a file, which the agent names to it; the first one's is shown.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import typer

from xllm_cli.console import FAILED, note

LAUNCHED = "XLLM_LAUNCHED"  # set for processes that `launch` started


def launched() -> bool:
    """Whether this process is one of several of the same command, started by `launch` or another launcher."""
    return "LOCAL_RANK" in os.environ


def launch(processes: int, environment: dict[str, str]) -> None:
    """Run this command again in so many processes; exits as the first of them that failed did, with its message."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # the agent's own account, with tracebacks
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # not what each process thinks of unused parameters
    os.environ.update(environment, **{LAUNCHED: "1"})
    with tempfile.TemporaryDirectory(prefix="xllm-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "xllm_cli.main", *sys.argv[1:])
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise typer.Exit(128 + error.sigval) from None
        except ChildFailedError as error:
            message, code = _first_failure(error, Path(folder))
            note(message)
            raise typer.Exit(code) from None


def fail(message: str, code: int) -> None:
    """End with a message and an exit code; of a process that `launch` started, both go there."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file and LAUNCHED in os.environ:
        about = {"message": message, "timestamp": int(time.time()), "time": time.time(), "code": code}
        Path(file).write_text(json.dumps(about), encoding="utf-8")
    else:
        note(message)
    sys.exit(code)


def _first_failure(error, folder: Path) -> tuple[str, int]:
    """Message and exit code of the process that failed first: others fail because it is gone."""
    rank, failure = error.get_first_failure()
    for number, other in error.failures.items():
        if other.exitcode < 0 and other.exitcode != -signal.SIGTERM:  # which is how the agent ends the others
            rank, failure = number, other
            break
    else:
        said = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("error.json")]
        if said:
            first = min(said, key=lambda about: about["time"])
            return first["message"], first["code"]
    guess = "; was there too little memory?" if failure.exitcode == -signal.SIGKILL else ""
    return f"error: process {rank} ended with code {failure.exitcode}{guess}", FAILED
