"""Writes golden.json and meta.json: the results of SciPy and NumPy on the test samples of irepair-stats.

run:    python parity/stats/make.py        needs: numpy, scipy, statsmodels, pymoo
reads:  nothing. The samples are drawn here from a seeded generator and stored with the answers.

Exact p-values with ties come from SciPy's permutation method, which enumerates every assignment for samples this
small. What SciPy lacks (A12, Gini, error density) is written out from its definition in docs/METHOD.md. McNemar and Holm are also
asked of statsmodels, hypervolumes of pymoo and of a count of unit cells; the generator stops where two sources differ.
"""

import json
import platform
from pathlib import Path

import numpy
import pymoo
import scipy
import statsmodels
from pymoo.indicators.hv import HV
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

SEED = 20250601
HERE = Path(__file__).parent
rng = numpy.random.default_rng(SEED)
every_assignment = stats.PermutationMethod(n_resamples=10**6)


def samples():
    """Named samples: few and many values, with and without ties."""
    return {
        "seeds_3": [rng.normal(5, 1, 3), rng.normal(12, 2, 3)],
        "seeds_5": [rng.normal(5, 2, 5), rng.normal(6, 2, 5)],
        "tied_small": [rng.integers(0, 4, 7), rng.integers(1, 6, 7)],
        "clear_30": [rng.normal(0, 1, 30), rng.normal(0.4, 1, 30)],
        "many_70": [rng.normal(0, 1, 70), rng.normal(0.3, 1, 70)],
        "tied_200": [rng.integers(0, 5, 200) / 4, rng.integers(0, 5, 200) / 4],
    }


def wilcoxon(a, b):
    differences = a - b
    used = differences[differences != 0]
    tied = len(numpy.unique(numpy.abs(used))) < len(used)
    if len(used) > 50:
        method, name = "asymptotic", "normal"
    else:
        method, name = (every_assignment if tied else "exact"), "exact"
    result = stats.wilcoxon(used, zero_method="wilcox", correction=True, method=method)
    ranks = stats.rankdata(numpy.abs(used))
    return {"w_plus": ranks[used > 0].sum(), "p": result.pvalue, "method": name, "n_used": len(used)}


def mann_whitney(a, b):
    pooled = numpy.concatenate([a, b])
    tied = len(numpy.unique(pooled)) < len(pooled)
    if len(pooled) > 40:
        method, name = "asymptotic", "normal"
    else:
        method, name = (every_assignment if tied else "exact"), "exact"
    result = stats.mannwhitneyu(a, b, use_continuity=True, method=method)
    return {"u": result.statistic, "p": result.pvalue, "method": name}


def a12(ours, theirs):
    return numpy.mean([(x < y) + 0.5 * (x == y) for x in ours for y in theirs])


def gini(x):
    return numpy.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())


def holm(p):
    """The adjusted p of test i: the largest (m - j) p_(j) over the tests ranked no later than it."""
    order = numpy.argsort(p)
    m = len(p)
    adjusted = numpy.empty(m)
    for place, i in enumerate(order):
        adjusted[i] = min(1, max((m - j) * p[order[j]] for j in range(place + 1)))
    assert numpy.allclose(adjusted, multipletests(p, method="holm")[1], rtol=1e-12, atol=0)
    return adjusted


def density(x, share):
    x = numpy.sort(x)[::-1]
    n_top = int(share * len(x) + 1e-9)
    top, rest = x[:n_top].mean(), x[n_top:].mean()
    return {
        "values": x[rng.permutation(len(x))],
        "share": share,
        "n_top": n_top,
        "top_mean": top,
        "rest_mean": rest,
        "gain_percent": 100 * (top / rest - 1),
        "gini": gini(x),
        "top_share_of_squares": (x[:n_top] ** 2).sum() / (x**2).sum(),
    }


def pair_case(name, a, b):
    a, b = numpy.asarray(a, float), numpy.asarray(b, float)
    t = stats.t.interval(0.95, len(a) - 1, loc=a.mean(), scale=stats.sem(a))
    boot = stats.bootstrap((a,), numpy.mean, n_resamples=10_000, method="percentile", rng=SEED)
    difference = stats.bootstrap((a - b,), numpy.mean, n_resamples=10_000, method="percentile", rng=SEED)
    return {
        "name": name,
        "a": a,
        "b": b,
        "mean": a.mean(),
        "sd": a.std(ddof=1),
        "median": numpy.median(a),
        "quantile_10": numpy.quantile(a, 0.1),
        "t_interval": list(t),
        "bootstrap_mean": list(boot.confidence_interval),
        "bootstrap_difference": list(difference.confidence_interval),
        "wilcoxon": wilcoxon(a, b),
        "mann_whitney": mann_whitney(a, b),
        "spearman": stats.spearmanr(a, b).statistic,
        "a12": a12(a, b),
    }


def mcnemar_case(n_only_left, n_only_right):
    n = n_only_left + n_only_right
    p = stats.binomtest(n_only_left, n, 0.5).pvalue if n else 1.0
    assert numpy.isclose(p, statsmodels_mcnemar([[3, n_only_left], [n_only_right, 2]], exact=True).pvalue, rtol=1e-9)
    return {"n_only_left": n_only_left, "n_only_right": n_only_right, "p": p}


def a12_interval_case(name, a, b):
    a, b = numpy.asarray(a, float), numpy.asarray(b, float)
    statistic = lambda x, y: ((x[:, None] < y) + 0.5 * (x[:, None] == y)).mean()
    boot = stats.bootstrap((a, b), statistic, n_resamples=10_000, method="percentile", vectorized=False, rng=SEED)
    return {"name": name, "interval": list(boot.confidence_interval), "sd": boot.standard_error}


def hypervolume_case(points, reference):
    area = HV(ref_point=numpy.asarray(reference, float))(numpy.asarray(points, float))
    if all(float(v).is_integer() for v in [*numpy.ravel(points), *reference]):
        low = numpy.min(points, axis=0)
        cells = [(x, y) for x in range(int(low[0]), int(reference[0])) for y in range(int(low[1]), int(reference[1]))]
        assert area == sum(any(p[0] <= x and p[1] <= y for p in points) for x, y in cells)
    return {"points": points, "reference": reference, "area": area}


def plain(value):
    if isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, numpy.generic):
        return value.item()
    raise TypeError(type(value))


def write(name, content):
    (HERE / name).write_text(json.dumps(content, indent=1, default=plain) + "\n")


p_values = rng.uniform(0, 0.2, 8).round(3)
named = samples()
write(
    "golden.json",
    {
        "pairs": [pair_case(name, a, b) for name, (a, b) in named.items()],
        "mcnemar": [mcnemar_case(*c) for c in [(0, 0), (1, 0), (5, 0), (3, 9), (7, 7), (120, 171)]],
        "holm": {"p": p_values, "adjusted": holm(p_values)},
        "density": [density(rng.lognormal(0, 1, n), share) for n, share in [(12, 0.2), (24, 0.2), (36, 0.2), (10, 0.5)]],
        # A sample of a few values has few different resamples: its quantiles are steps, which no two programs share.
        "a12_interval": [a12_interval_case(name, *named[name]) for name in ["clear_30", "many_70", "tied_200"]],
        "hypervolume": [
            hypervolume_case(points, reference)
            for points, reference in [
                ([[1, 2]], [4, 5]),
                ([[2, 1], [1, 3], [3, 3], [0, 6], [4, 0], [1, 3]], [4, 5]),
                ([[5, 5], [6, 1]], [4, 5]),
                (rng.integers(0, 12, (15, 2)), [10, 11]),
                # Toxicity and perplexity of models, the model before repair as reference; then a cloud, part of it
                # beyond.
                (rng.uniform([1, 17.5], [50, 40], (8, 2)), [48.0, 36.5]),
                (rng.normal(0, 1, (40, 2)), [0.8, 0.5]),
            ]
        ],
    },
)
write(
    "meta.json",
    {
        "generator": "parity/stats/make.py",
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "statsmodels": statsmodels.__version__,
        "pymoo": pymoo.__version__,
        "python": platform.python_version(),
        "seed": SEED,
        "dtype": "float64",
        "device": "cpu",
    },
)
