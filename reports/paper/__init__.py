"""What a paper's main table holds: which columns, by preset or by name, with the numbers that the answer has."""

from reports.paper.main import Main, MainColumn, MainLine, main_table
from reports.paper.style import ARTICLE, PRESETS, Style

__all__ = ["ARTICLE", "PRESETS", "Main", "MainColumn", "MainLine", "Style", "main_table"]
