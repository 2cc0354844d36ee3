"""What the package shows: closed, typed, and imported when it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import fog_compute
from fog_compute.face import describing, maps
from fog_compute.faces import FIELDS

PUBLIC = sorted(set(fog_compute.__all__) - {"__version__"})


def test_importing_the_package_imports_nothing_that_is_slow() -> None:
    code = (
        "import fog_compute, sys; slow = {'httpx2', 'asyncio', 'msgspec', 'fog_compute.errors'};"
        " assert not slow & sys.modules.keys(), slow & sys.modules.keys();"
        " fog_compute.InvalidTask; assert not {'httpx2', 'asyncio'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)


def test_the_names_of_the_package_are_closed() -> None:
    assert fog_compute.__all__ == sorted(fog_compute.__all__)
    assert set(dir(fog_compute)) >= set(PUBLIC)
    for name in PUBLIC:
        shown = getattr(fog_compute, name)
        assert shown.__name__ == name
        assert inspect.getdoc(shown), f"{name} says nothing of itself"
        assert shown.__module__.startswith("fog_compute.")
    with pytest.raises(AttributeError, match="'fog_compute' has no attribute 'nothing'"):
        _ = fog_compute.nothing
    assert Path(fog_compute.__file__ or "").with_name("py.typed").exists()


def test_every_exception_is_one_of_this_package() -> None:
    kinds = [getattr(fog_compute, name) for name in PUBLIC]
    raised = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Exception)]
    assert len(raised) > 10
    for kind in raised:
        assert issubclass(kind, (fog_compute.FogError, Warning)), kind


@pytest.mark.parametrize(
    ("blocking", "other"),
    [
        (fog_compute.BlockingFog, fog_compute.Fog),
        (fog_compute.BlockingTask, fog_compute.Task),
        (fog_compute.BlockingResult, fog_compute.Result),
        (fog_compute.BlockingPeople, fog_compute.People),
    ],
)
def test_both_faces_have_the_same_methods_and_arguments(blocking: type, other: type) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: [str(one) for one in inspect.signature(method).parameters]
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name != "close"
        }

    assert methods(blocking) == methods(other)


def test_arguments_are_called_as_texts_call_them() -> None:
    named = {field.python for field in FIELDS} - {"module"}
    assert named == set(get_type_hints(describing.TaskOptions))
    mapped = set(get_type_hints(describing.MapOptions))
    assert named - mapped == {"stdin", "inputs", "seed"}
    for field in mapped:
        assert f"        {field}: " in (describing.MapOptions.__doc__ or "")
    assert maps.BLOCK <= 1000, "one request takes no more tasks"
