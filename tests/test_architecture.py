"""The house stands: imports run downward, files stay readable, names are public on purpose."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import probmetrics

PACKAGE = Path(probmetrics.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each floor may import, besides itself. Siblings do not import each other.
DOORS = {"_arrays", "_autograd", "_checks", "_interval", "_progress", "_training", "__version__"}
GROUND = DOORS | {"pairwise", "gaussian"}
ESTIMATORS = GROUND | {"divergences", "discrepancy", "transport"}
USES = ESTIMATORS | {"uncertainty"}
MAY_IMPORT = {
    "_arrays": set(),
    "_autograd": set(),
    "_checks": set(),
    "_interval": {"_checks"},
    "_training": {"_arrays", "_checks"},
    "pairwise": DOORS,
    "gaussian": DOORS,
    "data": DOORS,
    "encoders": DOORS | {"data"},
    "divergences": GROUND,
    "discrepancy": GROUND,
    "transport": GROUND,
    "uncertainty": ESTIMATORS,
    "twosample": USES,
    "sketches": USES | {"metrics"},
    "metrics": USES | {"encoders", "data"},
    "losses": USES,
    "models": DOORS | {"losses", "data"},
    "report": USES | {"sketches", "twosample", "metrics", "losses", "models", "data", "encoders"},
    "cli_options": set(),
    "cli_training": {"cli_options", "report", "models"},
    "cli_evaluation": {"cli_options", "report"},
    "cli": USES
    | {
        "cli_evaluation",
        "cli_options",
        "cli_training",
        "report",
        "data",
        "metrics",
        "models",
        "encoders",
        "twosample",
    },
    "__main__": {"cli"},
}
# Arrows the floors do not have, each with its reason.
EXCEPTIONS: set[tuple[str, str]] = set()


def floor(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(floor, line) of every import of the package, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
            if node.module == "probmetrics":
                names = [f"probmetrics.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "probmetrics" and len(parts) > 1:
                yield parts[1], node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    here = floor(path)
    if here == "__init__":
        return
    assert here in MAY_IMPORT, f"{here} has no floor yet: give it one in this test"
    for there, line in imports(path):
        allowed = there == here or there in MAY_IMPORT[here] or (here, there) in EXCEPTIONS
        assert allowed, f"{path.relative_to(PACKAGE)}:{line} imports {there}, which is not below"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_open_with_one_sentence_and_stay_short(path):
    text = path.read_text(encoding="utf-8")
    head = ast.get_docstring(ast.parse(text))
    assert head, "a file opens by saying what it is for"
    lines = text.count("\n")
    assert lines <= 400 or "Long because" in head, f"{lines} lines without a reason"


def test_triton_is_known_to_the_fused_backend_only():
    for path in MODULES:
        names = {
            (alias.name if isinstance(node, ast.Import) else node.module or "")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if any(name.split(".")[0] == "triton" for name in names):
            assert path.stem.startswith("fused")


def test_users_never_meet_an_assert_for_their_errors():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not [node for node in asserts if node.msg is not None], path


def test_public_names_exist_and_are_documented():
    for name in probmetrics.__all__:
        value = getattr(probmetrics, name)
        assert value.__doc__, name
    assert len(set(probmetrics.__all__)) == len(probmetrics.__all__)


def test_the_stub_lists_what_the_package_offers():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    listed = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert sorted(listed) == sorted(probmetrics.__all__)


def test_the_import_is_light():
    code = (
        "import sys, torch; before = set(sys.modules); import probmetrics; probmetrics.mmd;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new & {'scipy', 'sklearn', 'ot', 'pandas', 'matplotlib', 'PIL', "
        "'torchmetrics', 'typer', 'jinja2'}))"
    )
    heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert heavy == []


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="wassertein"):
        _ = probmetrics.wassertein
