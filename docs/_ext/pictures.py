"""stub"""


def make(srcdir):
    pass
