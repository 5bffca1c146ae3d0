"""Embedded texts: the documentation strings of Python's standard library by topic.

No package that `kd` depends on ships a thousand texts: scikit-learn's `datasets/descr` are 14, and
its news groups are a download. Every Python has its standard library as source, with more than
4 200 documentation strings of modules, classes and functions, written by hundreds of people. A
class is a topic, a list of modules. Some texts say little about their topic ("Return the value."),
as in real collections, so that no net is right about all of them.

Python's minor versions differ in about 3 % of the texts. The data's fingerprint, under which a
trained teacher is registered, tells them apart; figures of one version compare only with figures of
the same.
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from kd.data.text_files import Document
from kd.errors import UserError

MIN_WORDS = 8
# Texts whose first words are the same count as one: cut to `max_length` tokens they could be equal,
# one in training and one in the test set.
COMPARED_WORDS = 20
TOPICS = {
    "text": """re sre_compile sre_parse string textwrap difflib html xml csv configparser json shlex
        tomllib plistlib codecs encodings gettext locale stringprep tokenize""",
    "network": """http urllib socket socketserver ssl smtplib ftplib imaplib poplib email xmlrpc
        ipaddress mailbox wsgiref webbrowser""",
    "concurrency": """asyncio threading multiprocessing concurrent queue sched subprocess selectors
        contextvars""",
    "numbers": """decimal _pydecimal fractions statistics random numbers datetime _pydatetime
        calendar colorsys heapq bisect _strptime zoneinfo""",
    "files": """os shutil pathlib zipfile tarfile gzip bz2 lzma tempfile glob fnmatch filecmp
        fileinput io _pyio posixpath ntpath genericpath stat linecache shelve dbm sqlite3 pickle
        pickletools copyreg""",
    "testing": """unittest doctest pdb bdb trace traceback cProfile profile pstats timeit
        tracemalloc warnings logging cmd code codeop""",
    "language": """ast inspect dis opcode types typing abc _collections_abc collections enum
        dataclasses functools importlib pkgutil symtable compileall py_compile modulefinder runpy
        site sysconfig contextlib copy weakref operator reprlib pprint zipimport pyclbr""",
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def corpus_files(library: Path | None = None) -> dict[str, list[Path]]:
    """Return the source files of each topic, in order.

    Args:
        library: folder of the standard library; None: that of this Python.

    Raises:
        UserError: the folder has no source files.
    """
    folder = library or Path(sysconfig.get_path("stdlib"))
    found = {
        topic: [path for name in names.split() for path in _sources(folder, name)]
        for topic, names in TOPICS.items()
    }
    if missing := [topic for topic, files in found.items() if not files]:
        raise UserError(
            f"{folder} has no source files of Python's standard library about {missing[0]}, the "
            "embedded texts; give texts of your own: data.root=texts.csv"
        )
    return found


def _sources(folder: Path, module: str) -> list[Path]:
    """Files of a module or package, without its tests; none if this Python does not have it."""
    package = folder / module
    files = sorted(package.rglob("*.py")) if package.is_dir() else [folder / f"{module}.py"]
    return [f for f in files if f.is_file() and "test" not in f.relative_to(folder).parts]


def read_corpus(files: dict[str, list[Path]]) -> list[Document]:
    """Read all documentation strings of at least eight words that begin differently."""
    seen: set[str] = set()
    found = []
    for topic, paths in files.items():
        for path in paths:
            for text in _docstrings(path):
                words = re.findall(r"[a-z]+", text.lower())
                key = " ".join(words[:COMPARED_WORDS])
                if len(words) >= MIN_WORDS and key not in seen:
                    seen.add(key)
                    found.append(Document(text, topic, str(path)))
    return found


def _docstrings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in the library's own strings
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
