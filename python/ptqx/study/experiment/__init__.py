"""A study: one model in every format and by every method, tested claims, one report."""

from .config import PostTraining, QuantizationAware, Study, read_study
from .page import page_of
from .results import Results, read_results
from .run import run_study

__all__ = [
    "PostTraining",
    "QuantizationAware",
    "Results",
    "Study",
    "page_of",
    "read_results",
    "read_study",
    "run_study",
]
