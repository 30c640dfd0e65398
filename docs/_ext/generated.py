"""What is made before the pages are read: pictures of the guides and pages of the benchmarks."""


def make(app):
    import pages
    import pictures

    pictures.make(app.srcdir)
    pages.make(app.srcdir)


def setup(app):
    app.connect("builder-inited", make)
    return {"parallel_read_safe": True}
