"""From the arguments of a call to a task as a backend is told it. Nothing is sent here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar, cast

from fog_compute.client.checking import check_task
from fog_compute.client.inputs import Inputs, read_blob, source_of
from fog_compute.client.scripts import check_script, kind_of, own_name
from fog_compute.client.sources import Source, TaskFiles
from fog_compute.errors import ConfigError, InvalidTask
from fog_compute.face.words import in_python
from fog_compute.layout import MAX_BLOB_BYTES
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import TaskKind, seed_from
from fog_compute.units import format_bytes, parse_bytes, parse_duration

__all__ = ["Argument", "Description", "MapOptions", "PathOrBytes", "TaskOptions", "describe"]

PathOrBytes = str | os.PathLike[str] | bytes
"""A path of a file, or its content: text is always a path."""

Argument = str | int | float | os.PathLike[str]

T = TypeVar("T")


class MapOptions(TypedDict, total=False):
    """How each task of a map is to run; what is not given is as the fog has it.

    Attributes:
        args: arguments of the program; numbers and paths become text.
        kind: ``wasm`` or ``python``; by default as the module's name and first line say.
        env: environment variables.
        memory: bytes that it may use, as a number or as text such as ``"512MiB"``.
        fuel: instructions that it may use.
        wall: seconds that it may run, as a number or as text such as ``"10m"``.
        output: bytes that it may write to standard output, to standard error and below ``out/``,
            each.
        scratch: bytes that its folder may hold, inputs included.
        privacy: ``public``, ``private`` (the default), ``confidential`` or ``secret``.
        group: whose workers may run it; by default the fog's first.
        strategy: how its worker is chosen; by default as its level needs it.
        attempts: tries before it fails; by default 3.
        wait_for_worker: queue it also where no listed worker can take it as it is; by default that
            raises `NoWorker`.
    """

    args: Sequence[Argument]
    kind: str
    env: Mapping[str, str]
    memory: int | str
    fuel: int
    wall: float | str
    output: int | str
    scratch: int | str
    privacy: PrivacyLevel | str
    group: str
    strategy: Strategy | str
    attempts: int
    wait_for_worker: bool


class TaskOptions(MapOptions, total=False):
    """How a task is to run; what is not given is as the fog has it.

    Attributes:
        stdin: standard input: bytes, or the path of a file.
        inputs: files that stand in its folder: paths of files, of folders or globs, under their own
            names; or a mapping of names to paths or bytes.
        seed: a text from which all its randomness follows, to repeat a run.
    """

    stdin: PathOrBytes
    inputs: Iterable[str | os.PathLike[str]] | Mapping[str, PathOrBytes]
    seed: str


_TASK_OPTIONS: Final = frozenset(TaskOptions.__annotations__) | frozenset(
    MapOptions.__annotations__
)


@dataclass(frozen=True, slots=True)
class Description:
    """A task as it is described to a backend, but for the blobs, which are not sent yet.

    Attributes:
        body: its members without ``module``, ``stdin`` and ``inputs``.
        files: what goes with it.
        hints: what may go wrong, in lines.
    """

    body: dict[str, Any]
    files: TaskFiles
    hints: tuple[str, ...]


def describe(module: PathOrBytes, options: TaskOptions) -> Description:
    """Look at everything that goes with a task.

    Raises:
        TypeError: an argument is unknown, or of a wrong type.
        InvalidTask: no fog would take it; the text names the argument.
        Unreadable: a file cannot be read.
    """
    if unknown := sorted(set(options) - _TASK_OPTIONS):
        raise TypeError(
            f"unknown argument {unknown[0]!r}: there are {', '.join(sorted(_TASK_OPTIONS))}"
        )
    with in_python():
        return _describe(module, options)


def _describe(module: PathOrBytes, options: TaskOptions) -> Description:
    if isinstance(module, bytes):
        name, data = "", module
        if len(data) > MAX_BLOB_BYTES:
            raise InvalidTask(f"`module` has more than {format_bytes(MAX_BLOB_BYTES)}")
    else:
        try:
            name = os.fspath(module)
        except TypeError:
            what = type(module).__name__
            raise TypeError(f"module is a {what}: give the path of a file, or its bytes") from None
        data = read_blob(name, "module")
    code = Source.of(f"module {name}".rstrip(), data)
    kind = kind_of(name, data, _read(TaskKind, "kind", options.get("kind")))
    if isinstance(module, bytes) and "kind" not in options and not data.startswith(b"\0asm"):
        kind = TaskKind.PYTHON  # what is no WebAssembly and has no name can only be a script
    stdin = options.get("stdin")
    taken = None if stdin is None else _source("stdin", "standard input", stdin)
    inputs = _gather(code, taken, options.get("inputs", ()))
    hints: list[str] = []
    if kind is TaskKind.PYTHON:
        own = own_name(name) if name else "script.py"
        if own is not None and own not in inputs:
            inputs[own] = code
        hints = check_script(name or "script.py", data, inputs)
    body = _body(options, kind)
    check_task({**body, "inputs": inputs}, data)
    return Description(body, TaskFiles(code, taken, inputs), tuple(hints))


def _gather(
    code: Source,
    stdin: Source | None,
    given: Iterable[str | os.PathLike[str]] | Mapping[str, PathOrBytes],
) -> dict[str, Source]:
    if isinstance(given, (str, bytes, os.PathLike)):
        raise TypeError("inputs is one thing: give a list of paths, or a mapping of names to them")
    found = Inputs(code, stdin)
    if isinstance(given, Mapping):
        for name, what in given.items():
            found.add_source(name, _source(f"inputs[{name!r}]", "input", what), repr(name))
    else:
        for path in given:
            if isinstance(path, bytes):
                raise TypeError("inputs holds bytes without a name: give {name: bytes}")
            found.add_path(os.fspath(path))
    return found.by_name


def _source(argument: str, what: str, given: PathOrBytes) -> Source:
    if isinstance(given, bytes):
        if len(given) > MAX_BLOB_BYTES:
            raise InvalidTask(f"{argument} has more than {format_bytes(MAX_BLOB_BYTES)}")
        return Source.of(argument, given)
    try:
        return source_of(os.fspath(given), what)
    except TypeError:
        raise TypeError(f"{argument} is a {type(given).__name__}: give bytes or a path") from None


def _body(options: TaskOptions, kind: TaskKind) -> dict[str, Any]:
    args = options.get("args", ())
    if isinstance(args, (str, bytes)):
        raise TypeError("args is one text: give a list of them")
    if not isinstance(args, Iterable):
        raise TypeError(f"args is a {type(args).__name__}: give a list")
    env = options.get("env", {})
    if not isinstance(env, Mapping):
        raise TypeError(f"env is a {type(env).__name__}: give a mapping of names to values")
    for name, value in env.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"env holds a {type(value).__name__} as {name!r}: give text")
    seed = options.get("seed")
    if not isinstance(seed, str | None):
        raise TypeError(f"seed is a {type(seed).__name__}: give a text")
    strategy = _read(Strategy, "strategy", options.get("strategy"))
    return {
        "kind": kind.value,
        "argv": [_text(one) for one in args],
        "env": dict(env),
        "seed": None if seed is None else seed_from(seed),
        "limits": _limits(options),
        "privacy": (_read(PrivacyLevel, "privacy", options.get("privacy")) or _DEFAULT).value,
        "group": options.get("group", ""),
        "max_attempts": options.get("attempts", 3),
        **({"wait_for_worker": True} if options.get("wait_for_worker") else {}),
        "strategy": None if strategy is None else strategy.value,
    }


_DEFAULT: Final = PrivacyLevel.PRIVATE


def _limits(options: TaskOptions) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for name, field in (
        ("memory", "memory_bytes"),
        ("output", "output_bytes"),
        ("scratch", "scratch_bytes"),
    ):
        if name in options:
            given = cast("int | str", options[name])  # type: ignore[literal-required]
            limits[field] = _quantity(name, given, parse_bytes)
    if "wall" in options:
        limits["wall_s"] = _quantity("wall", options["wall"], parse_duration)
    if "fuel" in options:
        limits["fuel"] = options["fuel"]
    return limits


def _quantity(name: str, given: float | str, parse: Callable[[str], float]) -> float:
    if not isinstance(given, str):
        return given
    try:
        return parse(given)
    except ConfigError as error:
        raise InvalidTask(f"`{name}`: {error}") from None


def _read(kind: Callable[[str], T], name: str, given: str | None) -> T | None:
    """Read a word of a closed set."""
    if given is None:
        return None
    try:
        return kind(given)
    except ValueError:
        words = ", ".join(str(one) for one in cast("Iterable[object]", kind))
        raise InvalidTask(f"`{name}` is {given!r}: give one of {words}") from None


def _text(argument: Argument) -> str:
    if isinstance(argument, (str, os.PathLike)):
        return os.fspath(argument)
    if isinstance(argument, (int, float)):
        return str(argument)
    raise TypeError(f"args holds {argument!r}: arguments are text, numbers or paths")
