"""What is shipped is whole: names, metadata, wheel contents, text files, older interpreters.

python tests/test_hygiene.py FILE...    # the checks of text files, for pre-commit
"""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "probmetrics"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = {".py", ".pyi", ".md", ".toml", ".txt", ".yaml", ".yml", ".cff", ".jinja", ".rst", ".json"}
LARGEST = 600 * 1024  # bytes of a file in the repository


def faults(path):
    """What is wrong with a text file, in words."""
    data = path.read_bytes()
    if len(data) > LARGEST:
        yield f"{len(data)} bytes; keep files under {LARGEST}"
    if path.suffix not in TEXT and path.name != "Makefile":
        return
    text = data.decode("utf-8")
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield "must end with one newline"
    if "\r" in text:
        yield "has carriage returns"
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield f"line {number} ends with blanks"
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            yield f"line {number} is a merge conflict"


def tracked():
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


def test_text_files_are_clean():
    found = [f"{p.relative_to(ROOT)}: {fault}" for p in tracked() for fault in faults(p)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_source_parses_on(version):
    for path in PACKAGE.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=version)


def test_metadata_name_the_interpreters():
    assert PROJECT["requires-python"] == ">=3.11"
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]


@pytest.mark.parametrize(
    "name",
    [
        "data",
        "discrepancy",
        "encoders",
        "gaussian",
        "losses",
        "metrics",
        "models",
        "pairwise",
        "twosample",
        "uncertainty",
    ],
)
def test_public_names_are_exactly_all(name):
    module = importlib.import_module(f"probmetrics.{name}")
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(module.__all__) == sorted(n for n in imported if not n.startswith("_"))


def test_the_reference_has_every_public_name():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        reference = importlib.import_module("reference")
    finally:
        sys.path.pop(0)
    shown = {
        f"{module}.{name}"
        for _, _, groups in reference.contents()  # raises where a name of the face has no page
        for module, names in groups
        for name in names
    }
    for sub in reference.PUBLIC:
        module = importlib.import_module(f"probmetrics.{sub}")
        elsewhere = {name.rpartition(".")[2] for name in shown}
        assert set(module.__all__) <= elsewhere, sub


def test_package_data_are_declared():
    """Whatever is not Python in the package matches a pattern that puts it into the wheel."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    patterns = tomllib.loads(text)["tool"]["setuptools"]["package-data"]
    for path in PACKAGE.rglob("*"):
        if path.is_dir() or path.suffix in (".py", ".pyc"):
            continue
        owner = ".".join(path.relative_to(ROOT).parent.parts)
        allowed = patterns.get(owner, [])
        assert any(path.match(pattern) for pattern in allowed), f"{path} is not shipped"
    for needed in ("py.typed", "__init__.pyi", "report/page.html.jinja"):
        assert (PACKAGE / needed).exists(), needed


if __name__ == "__main__":
    lost = [f"{name}: {fault}" for name in sys.argv[1:] for fault in faults(Path(name))]
    print(*lost, sep=os.linesep)
    sys.exit(bool(lost))
