"""Every relative link and every anchor in the built pages leads somewhere.

python docs/_ext/links.py docs/_build/html
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the anchors it offers."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        for key in ("href", "src"):
            if values.get(key):
                self.links.add(values[key])


def broken(root):
    """(page, link) of every link that leads nowhere."""
    root = Path(root).resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")}
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = pages.get(target)
            here = target.exists()
            if not here or (
                known
                and parts.fragment
                and not parts.fragment.startswith("L")
                and unquote(parts.fragment) not in known.anchors
            ):
                yield str(path.relative_to(root)), link


def finished(app, exception):
    if exception is None and app.builder.name == "html":
        from sphinx.errors import ExtensionError

        found = [f"{page}: {link}" for page, link in broken(app.outdir)]
        if found:
            raise ExtensionError("links that lead nowhere:\n" + "\n".join(found))


def setup(app):
    app.connect("build-finished", finished, priority=900)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    lost = list(broken(sys.argv[1]))
    print(*(f"{page}: {link}" for page, link in lost), sep="\n")
    sys.exit(bool(lost))
