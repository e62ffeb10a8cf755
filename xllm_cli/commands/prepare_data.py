"""`xllm prepare-data`: corpora to manifests, steps from manifests to manifests, recipes of both."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from xllm_cli.commands import data_steps, demo_data, tiny_data
from xllm_cli.console import show_rows, show_warnings
from xllm_cli.preparation import Gpus, Limit, Quiet, Ray, Workers, finish, mapper, showing, tell

CORPORA, STEPS = "Corpora, from RAW to a folder of manifests", "Steps, from a manifest to a manifest"
RECIPES, DEMO, TINY = "Recipes of both", "A world made from nothing", "The system in the package"


class _WithCorpora(TyperGroup):
    """The group, and a command for each corpus, made when somebody asks for one: the table takes time to import."""

    def list_commands(self, ctx) -> list[str]:
        return list(self._with_corpora())

    def get_command(self, ctx, cmd_name: str):
        return self._with_corpora().get(cmd_name)

    def _with_corpora(self) -> dict:
        from xllm.corpora.table import CORPORA as TABLE

        if "coco" not in self.commands:
            corpora = typer.Typer()
            for corpus in TABLE.values():
                corpora.command(corpus.name, help=_help(corpus), short_help=_short(corpus), rich_help_panel=CORPORA)(
                    _command(corpus)
                )
            self.commands = {**typer.main.get_command(corpora).commands, **self.commands}
        return self.commands


app = typer.Typer(
    cls=_WithCorpora,
    no_args_is_help=True,
    help="Turn what you have downloaded into manifests, and these into what a stage trains on. "
    "Nothing is downloaded: --list says what there is, from whom, and under which terms. docs/data.md shows the way "
    "from nothing to the paper's data.",
)


def _short(corpus) -> str:
    return f"{corpus.title}: {corpus.size}."


def _help(corpus) -> str:
    return (
        f"{corpus.title}: {corpus.size}.\n\n"
        f"RAW holds {corpus.layout}. Archives may stay as they are. Get it at {corpus.where} ({corpus.licence}). "
        "OUT gets a manifest for each split, a report that counts every input, and a list of what was left out. "
        "A run that was stopped goes on when it is started again."
    )


def _command(corpus):
    def convert_corpus(
        raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder or archive, as it was downloaded.")],
        out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for manifests.")],
        split: Annotated[
            list[str] | None,
            typer.Option(help=f"{', '.join(corpus.splits)}; may be given several times. Without: all that are there."),
        ] = None,
        limit: Limit = None,
        workers: Workers = 1,
        ray: Ray = None,
        quiet: Quiet = False,
    ) -> None:
        from xllm.corpora.corpus import convert
        from xllm.corpora.raw import Raw

        show_warnings(quiet)
        reports = []
        with Raw(raw, out) as tree, showing(quiet) as show:
            how = mapper(workers, ray=ray)
            for name in corpus.splits_in(tree, split or ()):
                told = partial(show, f"{corpus.name} {name}", None)
                report = convert(corpus, tree, name, limit=limit, mapper=how, progress=told)
                tell(out / f"{name}.jsonl", report)
                reports.append(report)
        finish(reports)

    return convert_corpus


def _list(wanted: bool) -> None:
    if wanted:
        from xllm.corpora.table import CORPORA as TABLE

        head = ("name", "kind", "stages", "size", "licence", "where")
        rows = [(c.name, c.kind, c.used, c.size, c.licence, c.where) for c in TABLE.values()]
        show_rows([head, *rows], words=True)
        raise typer.Exit


@app.callback()
def options(
    list_: Annotated[
        bool,
        typer.Option(
            "--list", callback=_list, is_eager=True, help="The corpora: kind, size, licence, where to get them, stages."
        ),
    ] = False,
) -> None:
    pass


for name, function in data_steps.COMMANDS.items():
    app.command(name, rich_help_panel=STEPS)(function)


@app.command("run", rich_help_panel=RECIPES)
def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), e.g. recipes/data/vsdial-cn.yaml.")],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder with the corpora that the recipe names.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for all manifests and what is made for them.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="STEP.KEY=VALUE", help="A key of all steps of that name: translate.model=my/mbart."),
    ] = None,
    limit: Limit = None,
    workers: Workers = 1,
    gpus: Gpus = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Corpora and steps as a recipe lists them, each resumed where it was stopped."""
    from xllm.steps.recipe import follow, load_tasks

    show_warnings(quiet)
    tasks = load_tasks(recipe, overrides or [])
    reports = []
    with showing(quiet) as show:
        how = mapper(workers, gpus, ray)
        for manifest, report in follow(tasks, raw, out, limit=limit, mapper=how, progress=show):
            tell(manifest, report)
            reports.append(report)
    finish(reports)


app.command("demo", rich_help_panel=DEMO)(demo_data.demo)
for function in (tiny_data.tiny_speech, tiny_data.tiny_pictures, tiny_data.tiny_clips, tiny_data.tiny_instructions):
    app.command(function.__name__.replace("_", "-"), rich_help_panel=TINY)(function)
