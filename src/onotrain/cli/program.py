"""The program: which subcommands there are, and what surrounds each of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from textwrap import fill

import click

from onotrain import __version__
from onotrain.cli.subcommand import Group, nearest, show_help_without_subcommand
from onotrain.cli.terminal import discard_output, lost_output, terminal_columns
from onotrain.errors import EXIT_CODES, EXIT_OK, OnotrainError, ResourceError, UsageError, on_all_ranks
from onotrain.parallel import guard, launcher, threads
from onotrain.text import printable

#: Subcommand -> (module that has it as `command`, what it does).  The latter stands here too, so that a list of the
#: subcommands imports none of them.
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "init": ("onotrain.cli.init", "Write a commented configuration for a data file."),
    "validate": ("onotrain.cli.validate", "Check a configuration."),
    "train": ("onotrain.cli.train", "Train a network."),
    "launch": ("onotrain.cli.launch", "Train under mpirun, again after each failure."),
    "slurm": ("onotrain.cli.slurm", "Write, and submit, a batch script for Slurm."),
    "torture": ("onotrain.cli.torture", "Train while ranks are killed and stopped, and compare the results."),
    "watch": ("onotrain.cli.watch", "Watch a run in the terminal or a browser; have it save or stop."),
    "inspect": ("onotrain.cli.inspect", "Show what a run or a checkpoint holds."),
    "compare": ("onotrain.cli.compare", "Train by several methods, and report what each is good for."),
    "plan": ("onotrain.cli.plan", "Predict how long a training takes on a cluster, and recommend a method."),
    "simulate": ("onotrain.cli.simulate", "Simulate the trainings of a study on a cluster that need not exist."),
    "report": ("onotrain.cli.report", "Report on runs: a page, pictures for print, and all numbers."),
    "evaluate": ("onotrain.cli.evaluate", "Measure a trained network on data."),
    "predict": ("onotrain.cli.predict", "Predict with a trained network."),
    "export": ("onotrain.cli.export", "Write a trained network for other programs."),
    "data": ("onotrain.cli.data", "Look at data files, convert them, fetch built-in data sets."),
    "bench": ("onotrain.cli.bench", "Measure kernels, steps, collectives, prediction and files on this machine."),
    "doctor": ("onotrain.cli.doctor", "Check this machine, MPI and BLAS, and say how to fix what is wrong."),
}

#: The subcommands that all ranks of an MPI job work on; under mpirun rank 0 alone does the others.
COLLECTIVE = frozenset({"train", "evaluate", "predict", "bench", "doctor", "plan"})

#: The subcommands that launch ranks, which would inherit the threads of a process that is alone.
LAUNCHING = frozenset({"launch", "torture", "compare"})

EXAMPLES = """\
Examples:
  onotrain train configs/digits.yaml --output runs/digits
  mpirun -n 4 onotrain train configs/mnist-mlp.yaml
  onotrain predict runs/digits samples.csv --output predictions.csv
"""


class Subcommands(Group):
    """The group of all subcommands; imports a subcommand's module when that subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands in the order that one uses them."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = import_module(SUBCOMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(subcommand, line) for subcommand, (_, line) in SUBCOMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples as they are."""
        codes = ", ".join(f"{code}\N{NO-BREAK SPACE}{meaning}" for code, meaning in EXIT_CODES.items())
        lines = fill(f"Exit codes: {codes}.", formatter.width).replace("\N{NO-BREAK SPACE}", " ")
        formatter.write(f"\n{EXAMPLES}\n{lines}\n")


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Subcommands, invoke_without_command=True, context_settings=_SETTINGS)
@click.version_option(__version__, "--version", "-V", message="onotrain %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Train neural networks with MPI on CPU clusters."""
    show_help_without_subcommand(ctx)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code."""
    subcommand = next((word for word in arguments if not word.startswith("-")), None)
    local = subcommand in SUBCOMMANDS and subcommand not in COLLECTIVE
    if launcher.rank() > 0:
        if local:
            return EXIT_OK
        discard_output()  # help and the like are for one rank to print
    if subcommand not in LAUNCHING:
        threads.set_default()
    return guard.run(lambda: _invoke(list(arguments), subcommand, local), columns=lambda: terminal_columns(stderr=True))


def _invoke(arguments: list[str], subcommand: str | None, local: bool) -> None:
    """Run click; what it has to say about the command line becomes one of our errors, the same on all ranks."""
    try:
        program.main(arguments, prog_name="onotrain", standalone_mode=False)
        # What `train` prints is not what it is run for.
        if subcommand != "train" and (lost := lost_output()) is not None:
            raise ResourceError(f"cannot write to standard output: {lost.strerror}")
    except click.UsageError as error:
        raise on_all_ranks(UsageError(_words(error), hint=f"see {_path(error)} --help")) from error
    except click.ClickException as error:
        raise on_all_ranks(UsageError(error.format_message())) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except OnotrainError as error:
        error.agreed |= local  # the other ranks have nothing to do
        for word in arguments:  # the name of a file may have line breaks
            error.message = error.message.replace(word, printable(word)) if word else error.message
        raise


def _words(error: click.UsageError) -> str:
    """Return a usage error in words, with the nearest right word where there is one."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        names = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
        return f"no such option {error.option_name}; {nearest(error.option_name, [*names, '--help'])}"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "onotrain"
