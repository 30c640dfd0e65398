"""The page and the pictures: self-contained, escaped, accessible, written whole or not at all."""

import base64
import functools
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from probmetrics.report import compare
from probmetrics.report.figures import edges_of, plain
from probmetrics.report.page import as_html
from probmetrics.report.tables import number, share
from probmetrics.report.writing import write_whole

quick = functools.partial(compare, permutations=99, progress=False)
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac", "[red]{{ 7*7 }}"]


def frame(seed, shift=0.0, n=40):
    values = np.random.default_rng(seed).normal(size=(n, 4))
    values[:, 0] += shift
    return pd.DataFrame(values, columns=EVIL)


@pytest.fixture(scope="module")
def table():
    return quick(frame(0), frame(1, 2.0), names=("<b>A</b>", "B & [bold]C"), command="x <y>")


@pytest.fixture(scope="module")
def digits():
    return quick("data:digits[0:150]", "data:digits[label=3][0:100]", metrics="mmd,energy")


@pytest.fixture(scope="module")
def model():
    metrics = "frechet,frechet_infinity,coverage"
    options = {"train": "data:digits[0:200]", "metrics": metrics, "image_size": None}
    return quick("data:digits[300:500]", "data:digits[0:100]", **options)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.headings = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(table):
    return Page(as_html(table))


class TestPage:
    def test_elements_are_closed(self, page):
        assert page.open == []

    def test_names_from_files_are_escaped(self, table, page):
        assert page.all("script") == []
        assert all("onerror" not in attributes for _, attributes in page.elements)
        assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
        assert "<b>" not in as_html(table)
        shown = "".join(page.text)
        for name in [*EVIL, "<b>A</b>", "B & [bold]C", "x <y>"]:
            assert name in shown  # as text, unharmed and not evaluated

    def test_nothing_is_loaded(self, page):
        for tag, attributes in page.elements:
            for key in ("src", "href", "srcset", "action", "data"):
                if key in attributes:
                    assert attributes[key].startswith("data:"), (tag, attributes)
            assert not [key for key in attributes if key.startswith("on")]
        policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
        assert policy.startswith("default-src 'none'")

    def test_no_foreign_address_in_the_source(self, table):
        assert not re.findall(r"(?:https?:)?//[a-z]", as_html(table).split("base64,")[0])
        assert "@import" not in as_html(table)
        assert "url(" not in as_html(table)

    def test_headings_descend_by_one(self, page):
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:]))  # noqa: B905

    def test_every_picture_has_a_text(self, page):
        images = page.all("img")
        assert len(images) >= 8
        texts = [image["alt"] for image in images]
        assert all(len(text) > 20 for text in texts)
        assert len(set(texts)) == len(texts)

    def test_tables_name_their_rows_and_columns(self, page):
        assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))

    def test_language_title_and_viewport(self, page):
        assert page.all("html")[0]["lang"] == "en"
        assert any(meta.get("name") == "viewport" for meta in page.all("meta"))

    def test_identifiers_are_unique_and_references_resolve(self, page):
        identifiers = [a["id"] for _, a in page.elements if "id" in a]
        assert len(set(identifiers)) == len(identifiers)
        named = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
        assert set(named) <= set(identifiers)

    def test_the_answer_and_provenance_are_there(self, table, page):
        shown = "".join(page.text)
        assert table.verdict.sentence in shown
        assert table.provenance.created in shown
        assert "probmetrics" in shown
        for measurement in table.measurements:
            assert number(measurement.value) in shown
            assert measurement.metric.meaning in shown

    def test_colours_contrast(self, table):
        """WCAG AA: at least 4.5 to 1 for text, against the background of the page."""
        css = as_html(table).split("</style>")[0]
        colours = dict(re.findall(r"--(\w+): (#\w{6})", css))

        def luminance(colour):
            parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
            parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
            return parts @ [0.2126, 0.7152, 0.0722]

        for name in ("ink", "soft", "a", "b"):
            ratio = (luminance("#f5f6f8") + 0.05) / (luminance(colours[name]) + 0.05)
            assert ratio >= 4.5, name

    def test_images_have_grids_and_means(self, digits):
        page = Page(as_html(digits))
        shown = "".join(page.text)
        assert "Images of A that B lacks most" in shown
        assert "Mean images" in shown
        assert page.open == []

    def test_grey_pixels_look_as_in_a_viewer(self, digits):
        dark = np.random.default_rng(0).integers(0, 90, size=(2, 20, 8, 8), dtype=np.uint8)
        drawn = quick(*dark, metrics="energy").figures["samples_a"].axes[0].images[0]
        assert (drawn.norm.vmin, drawn.norm.vmax, drawn.cmap.name) == (0, 255, "gray")
        ink = digits.figures["samples_a"].axes[0].images[0]
        assert (ink.norm.vmax, ink.cmap.name) == (16, "gray_r")

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_images_in_colour(self, channels):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, size=(2, 20, 6, 6, channels), dtype=np.uint8)
        result = quick(*images, metrics="energy")
        assert result.pair.image_shape[:2] == (6, 6)
        assert {"images_a", "images_b", "means"} <= set(result.figures)
        drawn = result.figures["images_a"].axes[0].images[0].get_array()
        row = next(row for row in result.rows if row.side == 0)
        want = images[0][row.position].squeeze()
        if channels > 1:
            want = want / 255
        np.testing.assert_allclose(np.asarray(drawn, dtype=float), want, atol=1e-6)

    def test_one_column_is_drawn_on_the_line(self):
        rng = np.random.default_rng(0)
        result = quick(rng.normal(size=30), rng.normal(size=30), metrics="energy")
        assert "line" in result.figures
        assert "projection" not in result.figures
        assert "Both samples on the line" in as_html(result)

    @pytest.mark.parametrize(
        "samples",
        [
            (np.ones((9, 3)), np.ones((9, 3))),
            (np.ones((9, 3)), np.zeros((7, 3))),
            (np.eye(3)[:2], np.eye(3)[1:]),
            (np.random.default_rng(0).normal(size=(5, 50)), np.zeros((4, 50))),
            (np.arange(6.0), np.full(6, 1e150)),
        ],
        ids=["constant", "two constants", "two points", "d > n", "huge"],
    )
    def test_odd_samples_still_make_a_page(self, samples):
        result = quick(*samples, metrics="energy")
        assert Page(as_html(result)).open == []

    def test_a_model_has_its_sections(self, model):
        page = Page(as_html(model))
        assert page.open == []
        assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:]))  # noqa: B905
        texts = [image["alt"] for image in page.all("img")]
        assert len(set(texts)) == len(texts) >= 15
        assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
        shown = "".join(page.text)
        for part in (
            model.pair.training.name,
            "Does it copy its training set?",
            "Class by class",
            "Fréchet distance against 1/n",
            "Images of A that B covers worst",
            "Images of B and their nearest training images",
            model.copying.sentence,
        ):
            assert part in shown
        source = re.escape(model.pair.training.data.source)
        assert re.search(rf"training set</th><td[^>]*>{source}<", as_html(model))


class TestFigures:
    def test_they_are_figures_drawn_once(self, table):
        figures = table.figures
        assert figures is table.figures
        assert {"distances", "projection", "witness", "null_mmd", "null_energy"} <= set(figures)
        assert all(isinstance(figure, Figure) for figure in figures.values())

    def test_pyplot_is_left_alone(self, table):
        import matplotlib.pyplot as plt

        before = plt.get_fignums(), dict(plt.rcParams)
        assert table.figures
        as_html(table)
        assert (plt.get_fignums(), dict(plt.rcParams)) == before

    def test_the_same_comparison_draws_the_same_picture(self, table):
        def pixels(figure):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=50)
            return buffer.getvalue()

        again = quick(frame(0), frame(1, 2.0), names=("<b>A</b>", "B & [bold]C"))
        assert pixels(table.figures["projection"]) == pixels(again.figures["projection"])

    def test_pictures_are_whole_pngs(self, table):
        for image in Page(as_html(table)).all("img"):
            data = base64.b64decode(image["src"].partition(",")[2])
            picture = Image.open(io.BytesIO(data))
            picture.load()
            assert picture.width == pytest.approx(1.5 * int(image["width"]), abs=3)

    def test_edges(self):
        assert len(edges_of(np.array([1.0, 1.0]))) > 2
        np.testing.assert_array_equal(edges_of(np.array([0.0, 3.0])), [-0.5, 0.5, 1.5, 2.5, 3.5])
        spread = edges_of(np.append(np.random.default_rng(0).normal(size=1000), 1e6))
        assert spread[-1] < 100  # one stray value does not hide the rest

    def test_foreign_text_is_no_mathematics(self):
        assert plain("$x_1$\n") == r"\$x\_1\$ ".replace(r"\_", "_")
        assert len(plain("a" * 500)) == 36


def test_numbers_for_people():
    assert number(-0.000123456) == "−0.000123"
    assert number(float("nan")) == number(None) == "–"
    assert share(0.0) == "< 0.0001"
    assert share(0.04567, "p") == "p = 0.046"
    assert share(1e-9, "p") == "p < 0.0001"


class TestWriting:
    def test_replaces_and_leaves_nothing_behind(self, tmp_path):
        target = tmp_path / "out.txt"
        write_whole(target, "one")
        write_whole(target, "two")
        assert target.read_text() == "two"
        assert list(tmp_path.iterdir()) == [target]

    def test_an_interruption_keeps_the_old_file(self, tmp_path, monkeypatch):
        target = tmp_path / "out.txt"
        write_whole(target, "old")

        def interrupted(self, other):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_whole(target, "new")
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]

    def test_permissions_of_an_existing_file_stay(self, tmp_path):
        target = tmp_path / "out.txt"
        target.write_text("x")
        target.chmod(0o640)
        write_whole(target, "y")
        assert target.stat().st_mode & 0o777 == 0o640

    def test_refusals(self, tmp_path):
        with pytest.raises(ValueError, match="is a folder"):
            write_whole(tmp_path, "x")
        with pytest.raises(ValueError, match="does not exist"):
            write_whole(tmp_path / "no" / "out.txt", "x")
