"""The README's and the guides' code runs as printed; their links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
RUN = [
    "README.md",
    "docs/start.md",
    "docs/which-distance.md",
    "docs/theory.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "howto").glob("*.md")),
]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/howto/*.md")})
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BUILT = ("auto_gallery/", "benchmarks/", "api/", "pictures/", "../api/", "../auto_gallery/")


@pytest.mark.parametrize("page", RUN)
def test_code_of_the_page_runs(page, tmp_path, monkeypatch, capsys):
    path = ROOT / page
    if not path.exists():
        pytest.skip("not written")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "document"}
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        line = path.read_text(encoding="utf-8")[: block.start()].count("\n") + 1
        code = compile("\n" * line + block[1], str(path), "exec")
        exec(code, names)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_of_the_page_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target or target.startswith(("mailto:", *BUILT)):
            continue
        assert (path.parent / target).exists(), target
