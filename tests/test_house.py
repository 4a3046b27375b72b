"""The house: which files there are, who may import whom, and how large anything may be. Read from the imports, with `ast`."""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {"build_data", "train", "export_graph", "inference", "evaluate", "convert_torch", "sample_data"}
SUBJECT = {"model", "pix2pix", "generator", "discriminator", "ops", "reader", "utils"}
FOLDERS = {  # and what each may import beside its own modules
    "system": set(),
    "pictures": {"system"},
    "quality": {"system", "pictures"},
    "training": {"system", "pictures"},
    "networks": {"system"},
    "formats": {"system", "pictures", "training.config", "networks", "ops", "generator", "utils"},
}
CORE = {"tensorflow", "keras", "numpy", "PIL", "tensorboard"}  # what requirements.txt installs
EXTRAS = {"onnx", "onnxruntime", "torch", "pillow_heif"}
LATE = {"tensorflow", "keras"} | EXTRAS  # what a module that has to load without it imports in its functions
KINDS = "formats.model_files"  # loads the module of a kind of model file only when there is such a file
LINES, FUNCTION_LINES = 300, 50

Sources = dict[str, str]  # modules by their dotted names


@pytest.fixture(scope="module")
def sources() -> Sources:
    files = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in ROOT.glob(f"{folder}/*.py"))]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name: file.read_text() for file, name in names.items() if file.stem != "__init__"}


@functools.cache
def parsed(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def imports(source: str, ours: set[str]) -> Iterator[tuple[str, bool]]:
    """The modules that a source imports, ours by their full names, and whether in a function."""
    late = {id(node) for f in parsed(source) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in parsed(source):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in ours else node.module for alias in node.names]
        else:
            continue
        yield from ((name, id(node) in late) for name in dict.fromkeys(names))


def arrows(sources: Sources) -> list[tuple[str, str]]:
    """Which of our modules imports which, wherever in the file."""
    return [(name, other) for name, text in sources.items() for other, _ in imports(text, set(sources)) if other in sources]


def allowed(name: str, other: str) -> bool:
    folder, _, module = name.partition(".")
    if not module:
        return other not in COMMANDS
    return other.partition(".")[0] == folder or bool({other, other.partition(".")[0]} & FOLDERS[folder])


def strangers(sources: Sources) -> list[str]:
    """Files that are no command, not of the subject, and in no folder."""
    known = COMMANDS | SUBJECT
    return [name for name in sources if name.partition(".")[0] not in (FOLDERS if "." in name else known)] + sorted(known - set(sources))


def wrong_arrows(sources: Sources) -> list[str]:
    return [f"{name} imports {other}" for name, other in arrows(sources) if not allowed(name, other)]


def circles(sources: Sources) -> list[str]:
    """Modules that import themselves by way of others."""
    graph: dict[str, set[str]] = {}
    for name, other in arrows(sources):
        graph.setdefault(name, set()).add(other)

    def reached(name: str) -> set[str]:
        found, left = set(), [name]
        while left:
            new = graph.get(left.pop(), set()) - found
            found |= new
            left += new
        return found

    return [name for name in graph if name in reached(name)]


def late_imports(sources: Sources) -> list[str]:
    """Imports in functions that belong at the top of their file. Commands may have them, once TensorFlow is quiet; else only `LATE`."""
    return [
        f"{name} imports {other} in a function"
        for name, text in sources.items()
        for other, late in imports(text, set(sources))
        if late and name not in COMMANDS and name != KINDS and other.partition(".")[0] not in LATE
    ]


def foreign_packages(sources: Sources) -> list[str]:
    """Packages that are not installed with the core, where something imports them without need."""
    ours = {name.partition(".")[0] for name in sources}
    return [
        f"{name} imports {other}"
        for name, text in sources.items()
        for other, late in imports(text, set(sources))
        if (package := other.partition(".")[0]) not in ours | CORE | sys.stdlib_module_names and not (late and package in EXTRAS)
    ]


def module_state(sources: Sources) -> list[str]:
    """Functions that change what belongs to a module."""
    return [name for name, text in sources.items() if any(isinstance(node, ast.Global) for node in parsed(text))]


def text_of_any_encoding(sources: Sources) -> list[str]:
    """Text files that are read or written in the encoding of the system, which need not have the characters of a name."""
    return [
        f"{name}, line {node.lineno}"
        for name, text in sources.items()
        for node in parsed(text)
        if isinstance(node, ast.Call) and not any(keyword.arg == "encoding" for keyword in node.keywords)
        if getattr(node.func, "attr", "") in ("read_text", "write_text")
        or getattr(node.func, "id", "") == "open"
        and not any("b" in getattr(mode, "value", "") for mode in node.args[1:2])
    ]


def too_long(sources: Sources) -> list[str]:
    files = [name for name, text in sources.items() if len(text.splitlines()) > LINES]
    functions = [
        f"{name}.{node.name}"
        for name, text in sources.items()
        for node in parsed(text)
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    return files + functions


RULES = [strangers, wrong_arrows, circles, late_imports, foreign_packages, module_state, text_of_any_encoding, too_long]


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(sources, rule):
    assert len(sources) > 30
    assert rule(sources) == []


@pytest.mark.parametrize(
    ("rule", "name", "line"),
    [
        (strangers, "helpers", ""),
        (strangers, "misc.helpers", ""),
        (wrong_arrows, "inference", "import train"),
        (wrong_arrows, "model", "import train"),
        (wrong_arrows, "system.storage", "from pictures import images"),
        (wrong_arrows, "pictures.images", "from training.config import Config"),
        (wrong_arrows, "training.loop", "from model import CycleGAN"),
        (wrong_arrows, "training.loop", "import reader"),
        (wrong_arrows, "formats.network", "from training import run_folder"),
        (wrong_arrows, "formats.network", "import export_graph"),
        (wrong_arrows, "quality.metrics", "from formats import translator"),
        (wrong_arrows, "quality.metrics", "def f():\n    import model"),
        (circles, "pictures.images", "import pictures.shards"),
        (circles, "utils", "def f():\n    from model import CycleGAN"),
        (late_imports, "training.journal", "def f():\n    import json"),
        (late_imports, "formats.network", "def f():\n    from formats import translator"),
        (foreign_packages, "quality.metrics", "import scipy"),
        (foreign_packages, "formats.onnx", "import onnxruntime"),
        (text_of_any_encoding, "ops", "file.write_text('é')"),
        (text_of_any_encoding, "ops", "open(file)"),
        (module_state, "ops", "state = 0\ndef f():\n    global state\n    state = 1"),
        (too_long, "ops", "\n" * LINES),
        (too_long, "ops", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
    ],
)
def test_a_rule_that_is_broken_is_noticed(sources, rule, name, line):
    broken = {**sources, name: f"{sources.get(name, '')}\n{line}\n"}
    if rule is circles:
        broken["pictures.shards"] += "\nfrom pictures import images\n"
    assert set(rule(broken)) > set(rule(sources))


def test_the_tests_mirror_the_house(sources):
    tests = {".".join(file.relative_to(ROOT / "tests").parts) for folder in FOLDERS for file in (ROOT / "tests" / folder).glob("*.py")}
    assert tests and {test.removesuffix(".py").replace(".test_", ".") for test in tests} <= set(sources)
