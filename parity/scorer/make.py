"""Writes golden.json and meta.json: the results of scikit-learn on the test scores and rows of irepair-scorer.

run:    python parity/scorer/make.py        needs: numpy, scipy, scikit-learn
reads:  nothing. Scores, labels and rows are drawn here from a seeded generator and stored with the answers.

A text is called toxic when its score is over 0.5, not at it. The expected calibration error is not in scikit-learn: it is
written out from the bins of calibration_curve (right-closed, as many texts as each holds).
"""

import json
import platform
from pathlib import Path

import numpy
import scipy
import sklearn
from scipy.sparse import csr_matrix
from sklearn import metrics
from sklearn.calibration import _SigmoidCalibration, calibration_curve
from sklearn.linear_model import LogisticRegression

SEED = 20250602
HERE = Path(__file__).parent
rng = numpy.random.default_rng(SEED)


def scores_and_labels():
    """Named cases: smooth, with ties on the bins' edges, nearly all of one side, useless scores."""
    smooth = rng.uniform(0, 1, 300)
    edges = rng.integers(0, 11, 200) * 0.1
    edges[edges > 1] = 1.0
    rare = rng.beta(1, 6, 250)
    flat = numpy.full(40, 0.5)
    return {
        "smooth": (smooth, rng.uniform(0, 1, 300) < smooth),
        "edges": (edges, rng.uniform(0, 1, 200) < 0.2 + 0.6 * edges),
        "rare": (rare, rng.uniform(0, 1, 250) < 0.5 * rare),
        "flat": (flat, rng.uniform(0, 1, 40) < 0.5),
    }


def quality(p, y):
    called = p > 0.5
    share, mean = calibration_curve(y, p, n_bins=10, strategy="uniform")
    bins = numpy.searchsorted(numpy.linspace(0, 1, 11)[1:-1], p)
    counts = numpy.bincount(bins, minlength=10)
    full = counts[counts > 0]
    answer = {
        "auc": metrics.roc_auc_score(y, p),
        "accuracy": metrics.accuracy_score(y, called),
        "brier": metrics.brier_score_loss(y, p),
        "ece": float((numpy.abs(share - mean) * full).sum() / len(p)),
        "bin_counts": counts,
        "bin_mean_score": mean,
        "bin_toxic_share": share,
    }
    if called.any():
        answer |= {
            "f1": metrics.f1_score(y, called),
            "precision": metrics.precision_score(y, called),
            "recall": metrics.recall_score(y, called),
        }
    return answer


def logistic(n, d, c):
    """A sparse problem with a few texts, its solution by a solver that goes to machine precision."""
    dense = rng.normal(0, 1, (n, d)) * (rng.uniform(0, 1, (n, d)) < 0.3)
    dense = dense.astype(numpy.float32).astype(float)
    y = rng.uniform(0, 1, n) < 1 / (1 + numpy.exp(-dense @ rng.normal(0, 1.5, d) - 0.3))
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(csr_matrix(dense).toarray(), y)
    rows = [[[int(j), float(dense[i, j])] for j in numpy.nonzero(dense[i])[0]] for i in range(n)]
    return {"c": c, "n_columns": d, "rows": rows, "toxic": y, "weights": model.coef_[0], "bias": model.intercept_[0]}


def platt(n):
    margins = rng.normal(0, 2, n)
    y = rng.uniform(0, 1, n) < 1 / (1 + numpy.exp(-0.8 * margins + 0.5))
    fitted = _SigmoidCalibration().fit(margins, y.astype(int))
    # scikit-learn's p is 1 / (1 + exp(a m + b)).
    return {"margins": margins, "toxic": y, "slope": -fitted.a_, "offset": -fitted.b_}


def plain(value):
    if isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, numpy.generic):
        return value.item()
    raise TypeError(type(value))


def write(name, content):
    (HERE / name).write_text(json.dumps(content, indent=None, separators=(",", ":"), default=plain) + "\n")


# In this order: each draws from the same generator.
content = {
    "quality": [{"name": k, "scores": p, "toxic": y} | quality(p, y) for k, (p, y) in scores_and_labels().items()],
}
fits = [logistic(60, 8, 1.0), logistic(40, 30, 0.3), logistic(80, 12, 25.0)]
content["platt"] = [platt(150), platt(12)]
write("golden.json", content)
# The test of the fit is a unit test: its file is in the crate.
write("../../crates/irepair-scorer/src/logistic.golden.json", fits)
write(
    "meta.json",
    {
        "generator": "parity/scorer/make.py",
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
        "seed": SEED,
        "dtype": "float64",
        "device": "cpu",
    },
)
