"""Values of statistics as they stand, and a statistic of any function of rows: the slow twin of every weighted form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from storyxai.metrics.bootstrap import Statistic, mean_statistic, value_of
from storyxai.metrics.classification import average_precision_statistic, sensitivity_statistic, specificity_statistic
from storyxai.metrics.text import bleu_statistic, cider_rows, rouge_l_rows


def by_value(statistic: Callable[..., Statistic]) -> Callable[..., float | None]:
    def value(first: Any, second: Any, **options: Any) -> float | None:
        return value_of(statistic(first, second, **options), len(first))

    return value


def row_statistic(function: Callable[[np.ndarray], float | None]) -> Statistic:
    """A statistic from a function of row numbers (repeated as drawn)."""

    def by_rows(weights: np.ndarray) -> np.ndarray:
        values = (function(np.repeat(np.arange(len(row)), row.astype(np.intp))) for row in weights)
        return np.array([np.nan if value is None else value for value in values])

    return by_rows


average_precision = by_value(average_precision_statistic)
sensitivity = by_value(sensitivity_statistic)
specificity = by_value(specificity_statistic)
bleu = by_value(bleu_statistic)
rouge_l = by_value(lambda reports, references: mean_statistic(rouge_l_rows(reports, references)))
cider = by_value(lambda reports, references: mean_statistic(cider_rows(reports, references)))
