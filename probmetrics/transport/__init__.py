"""Optimal transport: on the line, on the circle, sliced, exact, entropic."""
