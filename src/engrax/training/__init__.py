"""Training: the loop, what it measures, what it leaves behind, and recipes."""

from .curriculum import curriculum
from .evaluate import evaluate
from .fit import TrainingError, fit
from .run import Run
from .taught import taught, unforced

__all__ = ["Run", "TrainingError", "curriculum", "evaluate", "fit", "taught", "unforced"]
