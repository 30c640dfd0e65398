"""Divergences between densities, histograms, critics' scores, neighbours and ratios."""
