"""Two samples in, a report out: numbers, tests and pictures for a terminal, JSON or one page."""

from probmetrics.report.comparison import Comparison as Comparison
from probmetrics.report.comparison import compare as compare
