"""The reference: a page per floor with every public name, from the docstrings."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import probmetrics

# Page, title, where the names of the package's face live, further modules shown in full.
PAGES = [
    ("comparison", "Comparing two samples", ["report"], []),
    ("twosample", "Two-sample tests", ["twosample"], []),
    ("uncertainty", "Intervals", ["uncertainty"], []),
    ("discrepancy", "Kernel discrepancies", ["discrepancy"], []),
    ("transport", "Optimal transport", ["transport"], []),
    ("divergences", "Divergences", ["divergences", "_training"], []),
    ("gaussian", "Between Gaussian laws", ["gaussian"], []),
    (
        "pairwise",
        "Kernels, costs and the engine",
        ["pairwise"],
        [
            "probmetrics.pairwise.kernels",
            "probmetrics.pairwise.costs",
            "probmetrics.pairwise.reductions",
        ],
    ),
    ("metrics", "Metrics of generative models", [], ["probmetrics.metrics"]),
    ("sketches", "Sketches of data larger than memory", [], ["probmetrics.sketches"]),
    ("losses", "Losses", [], ["probmetrics.losses"]),
    ("models", "Models", [], ["probmetrics.models"]),
    ("data", "Data", [], ["probmetrics.data"]),
    ("encoders", "Encoders", [], ["probmetrics.encoders"]),
]
PUBLIC = ("data", "losses", "models", "metrics", "encoders", "sketches")


def homes():
    """The module in which each name of the package's face is written, from the stub."""
    stub = Path(probmetrics.__file__).with_name("__init__.pyi")
    found = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({alias.name: node.module for alias in node.names})
    return found


def public_names(module):
    """What a module offers: its ``__all__``, or else the functions and classes written in it."""
    module = importlib.import_module(module)
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    )


def contents():
    """(page, title, [(module, [names])]) for every page; raises where a public name has none."""
    home = homes()
    pages = []
    for page, title, floors, modules in PAGES:
        face = sorted(
            (n for n, module in home.items() if module.split(".")[0] in floors), key=str.lower
        )
        groups = [("probmetrics", face)] if face else []
        groups += [
            (module, [n for n in public_names(module) if n not in face]) for module in modules
        ]
        pages.append((page, title, groups))
    listed = {name for _, _, groups in pages for _, names in groups for name in names}
    missing = set(probmetrics.__all__) - listed - set(PUBLIC)
    if missing:
        raise LookupError(f"give these public names a page in docs/_ext/reference.py: {missing}")
    return pages


def entry(module, name):
    """The directive that documents one name."""
    value = getattr(importlib.import_module(module), name)
    path = f"{module}.{name}"
    if inspect.isclass(value):
        return f".. autoclass:: {path}\n   :members:\n"
    if (callable(value) and hasattr(value, "__wrapped__")) or inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    kind = type(value).__name__
    return f".. py:data:: {path}\n\n   {about(value, kind)}\n"


def about(value, kind):
    """One line on a public constant."""
    if hasattr(value, "reward"):
        return f"The row “{value.name}”, of type ``{kind}``."
    if isinstance(value, dict):
        return "Names: " + ", ".join(f"``{key}``" for key in value) + "."
    return f"A constant of type ``{kind}``."


def write_pages(app):
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    pages = contents()
    listing = "\n".join(f"   {page}" for page, _, _ in pages)
    write(
        folder / "index.rst",
        "Reference\n=========\n\nEvery public name, from its docstring. All of them are loaded "
        "from ``probmetrics`` when they\nare first used; costs and kernels are in "
        "``probmetrics.pairwise.costs`` and ``.kernels``.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listing}\n",
    )
    for page, title, groups in pages:
        text = [title, "=" * len(title), ""]
        for module, names in groups:
            if len(groups) > 1:
                text += [f"``{module}``", "-" * (len(module) + 4), ""]
            head = inspect.getdoc(importlib.import_module(module)) or ""
            if module != "probmetrics":
                text += [head.split("\n\n")[0], ""]
            text += [entry(module, name) for name in names]
        write(folder / f"{page}.rst", "\n".join(text))


def write(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


LITERAL = re.compile(r"(``.*?``|:\w+:`[^`]*`)")
MARKS = re.compile(r"(?<!\\)(\*|\||_(?=\W|$))")


def tame(app, what, name, obj, options, lines):
    """Docstrings write *batch, |x| and x_ as mathematics: no emphasis, no links."""
    if what in ("attribute", "property", "data"):
        lines[:0] = ["..", ""]  # else napoleon takes what stands before a colon for a type
    for index, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...", ".. ")):
            continue
        parts = LITERAL.split(line)
        parts[::2] = [MARKS.sub(r"\\\1", part) for part in parts[::2]]
        lines[index] = "".join(parts)


def check(app, environment):
    """Every name written on a page was found by autodoc."""
    known = environment.domaindata["py"]["objects"]
    lost = [
        f"{module}.{name}"
        for _, _, groups in contents()
        for module, names in groups
        for name in names
        if f"{module}.{name}" not in known
    ]
    if lost:
        raise LookupError(f"public names without an entry in the reference: {', '.join(lost)}")


def resolve(app, environment, node, contnode):
    """References to where a name is written lead to where it is offered."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") == "py" and f"probmetrics.{name}" in public_objects(environment):
        domain = environment.domains.python_domain
        return domain.resolve_xref(
            environment,
            node["refdoc"],
            app.builder,
            node["reftype"],
            f"probmetrics.{name}",
            node,
            contnode,
        )
    return None


def public_objects(environment):
    return environment.domaindata["py"]["objects"]


def setup(app):
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", tame, priority=100)
    app.connect("env-check-consistency", check)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
