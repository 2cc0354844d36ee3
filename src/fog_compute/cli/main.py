"""The entry point: each command is imported when it runs."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

from fog_compute import __version__
from fog_compute.cli.codes import OK
from fog_compute.cli.interrupts import interrupt_when_told_to_end
from fog_compute.cli.output import write
from fog_compute.descriptors import run_program

__all__ = ["main"]


def main() -> int:
    """Run the command of the process's arguments and return its exit code."""
    return run_program("fog", _main)


def _main() -> int:
    interrupt_when_told_to_end()
    return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    """Run one command; every expected error becomes one line and an exit code."""
    if arguments == ["--version"]:
        write(f"fog {__version__}\n")
        return OK
    from fog_compute.cli.failures import failure_of, report, wants_json  # slow

    try:
        return _run(arguments)
    except BaseException as error:
        failure = failure_of(error)
        if failure is None:
            raise
        return report(failure, as_json=wants_json(arguments))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["map"] and "--" in arguments:
        # Behind the inputs, only this tells what is an argument of the module.
        at = arguments.index("--")
        arguments = [*arguments[:at], *(f"--arg={text}" for text in arguments[at + 1 :])]
    from fog_compute.cli.commands import build_app

    app = build_app(arguments)
    if arguments[:1] == ["run"] and "--input" in arguments:
        from fog_compute.cli.arguments import inputs_apart

        options = app["run"].assemble_argument_collection(parse_docstring=False)
        flags = {name for one in options if one.token_count()[0] == 0 for name in one.names}
        arguments = ["run", *inputs_apart(arguments[1:], flags | {"--help", "-h"})]
    code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return code if isinstance(code, int) else OK


if __name__ == "__main__":
    sys.exit(main())
