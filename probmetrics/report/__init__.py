"""Two samples in, a report out: numbers, tests and pictures for a terminal, JSON or one page."""

from probmetrics.report.comparison import Comparison as Comparison
from probmetrics.report.comparison import compare as compare
from probmetrics.report.ranking import Ranking as Ranking
from probmetrics.report.ranking import rank_models as rank_models
from probmetrics.report.reference import ReferenceComparison as ReferenceComparison
from probmetrics.report.reference import compare_with_reference as compare_with_reference
from probmetrics.report.reference import is_reference as is_reference
