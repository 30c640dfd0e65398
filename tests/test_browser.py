"""The page in a browser: no complaints, nothing sticks out on a phone, every text can be read."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from probmetrics.report import compare

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FRAME = Path(__file__).parent / "fixtures" / "browser.html"
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")


def opened(folder, address, *options):
    """What the browser says, on standard output and on its console."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--enable-logging=stderr", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", *options, f"file://{folder / address}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A table with long names, and images of a model with all their sections."""
    rng = np.random.default_rng(0)
    names = ["a very long name of a column that has no end " * 2, "unbroken" * 20, "<b>", "d"]
    frames = [pd.DataFrame(rng.normal(i, size=(40, 4)), columns=names) for i in (0, 1)]
    options = {"permutations": 99, "progress": False}
    table = compare(*frames, **options, names=("A" * 60, "what the model makes"), command="x" * 300)
    metrics = "frechet,frechet_infinity,coverage"
    model = compare(
        "data:digits[300:500]", "data:digits[0:100]",
        train="data:digits[0:200]", metrics=metrics, **options,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pages")
    for name, result in {"table": table, "model": model}.items():
        (folder / name).mkdir()
        result.to_html(folder / name / "page.html")
    return folder


@pytest.mark.parametrize("kind", ["table", "model"])
def test_a_browser_shows_it_without_complaint(kind, pages):
    picture = f"--screenshot={pages / kind / 'page.png'}"
    _, complaints = opened(pages / kind, "page.html", "--window-size=1280,900", picture)
    assert complaints == []
    drawn = np.asarray(Image.open(pages / kind / "page.png").convert("L"))
    assert drawn.std() > 5  # something is drawn


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("kind", ["table", "model"])
def test_it_fits_and_can_be_read(kind, width, pages):
    folder = pages / kind
    (folder / "frame.html").write_text(FRAME.read_text().replace("WIDTH", str(width)))
    document, complaints = opened(folder, "frame.html", "--window-size=1400,900", "--dump-dom")
    assert complaints == []
    answer = re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)
    found = json.loads(html.unescape(answer[1]))
    assert found["wide"] == []
    assert found["scroll"] <= found["width"] <= width
    assert found["pale"] == []
    assert found["broken"] == 0
    assert found["images"] >= 8
    assert found["texts"] > 100
