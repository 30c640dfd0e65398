"""What is made before the pages are read: pictures of the guides and pages of the benchmarks."""

import re

RESULT = re.compile(r"\]\(\.\./benchmarks/results/([\w-]+)\.md\)")


def make(app):
    import pages
    import pictures

    pictures.make(app.srcdir)
    pages.make(app.srcdir)


def redirect(app, document, source):
    """Links into benchmarks/results, right in the repository, lead to the pages made of them."""
    source[0] = RESULT.sub(r"](/benchmarks/\1.md)", source[0])


def setup(app):
    app.connect("builder-inited", make)
    app.connect("source-read", redirect)
    return {"parallel_read_safe": True}
