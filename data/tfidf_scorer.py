"""Writes a scorer file of `irepair` from a text classifier that scikit-learn made and joblib stored.

    python3 tfidf_scorer.py VECTORIZER.joblib MODEL.joblib OUT.scorer ORIGIN

The classifier: a TfidfVectorizer of single words, and a CalibratedClassifierCV of linear models with sigmoid
calibration. Only the standard library is needed. Nothing of the two files is executed: the unpickler knows a fixed list
of names, makes empty objects for them, and refuses every other name. Settings that would change a score and are not
computed by `irepair` are refused too.
"""

import array
import json
import math
import pickle
import struct
import sys


class Stub:
    """In the place of every object of the file: keeps its arguments and its state, and does nothing."""

    def __new__(cls, *args, **_):
        self = object.__new__(cls)
        self.args = args
        return self

    def __init__(self, *_, **__):
        self.state = {}

    def __setstate__(self, state):
        self.state = state


KNOWN = {
    "joblib.numpy_pickle.NumpyArrayWrapper",
    "numpy.dtype",
    "numpy.float64",
    "numpy.ndarray",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.feature_extraction.text.TfidfVectorizer",
    "sklearn.svm._classes.LinearSVC",
}


def refuse(what):
    sys.exit(f"error: {what}")


class Unpickler(pickle._Unpickler):
    """Reads joblib's form of a pickle, in which the bytes of an array follow its description."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file):
        super().__init__(file)
        self.file = file

    def find_class(self, module, name):
        if f"{module}.{name}" not in KNOWN:
            refuse(f"the file holds a {module}.{name}, which is not known here")
        return type(f"{module}.{name}", (Stub,), {})

    def load_build(self):
        super().load_build()
        built = self.stack[-1]
        if type(built).__name__.endswith("NumpyArrayWrapper"):
            self.stack[-1] = self.read_array(built.state)

    dispatch[pickle.BUILD[0]] = load_build

    def read_array(self, state):
        kind = {"f8": "d", "i8": "q"}.get(state["dtype"].args[0])
        n = math.prod(state["shape"])
        if kind is None or state["order"] != "C" or n > 1 << 24:
            refuse("an array is not a list of at most 2^24 numbers of 64 bits")
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.read(self.file.read(1)[0])
        values = array.array(kind)
        values.frombytes(self.file.read(8 * n))
        if sys.byteorder == "big":
            values.byteswap()
        return list(values)


def load(path):
    with open(path, "rb") as file:
        return Unpickler(file).load().state


def scalar(value):
    """A number, or numpy's form of one."""
    return struct.unpack("<d", value.args[1])[0] if isinstance(value, Stub) else float(value)


def want(state, path, **settings):
    for key, value in settings.items():
        if state.get(key) != value:
            refuse(f"{path}: {key} is {state.get(key)!r}, and only {value!r} is computed here")


def words_of(path):
    """The words in their columns' order, and their inverse document frequencies."""
    state = load(path)
    want(state, path, analyzer="word", lowercase=True, ngram_range=(1, 1), binary=False, norm="l2", use_idf=True)
    want(state, path, sublinear_tf=False, strip_accents=None, preprocessor=None, tokenizer=None)
    want(state, path, token_pattern=r"(?u)\b\w\w+\b")
    # Stop words, and words too rare or too frequent, are not in the vocabulary, and no other word counts.
    columns = {word: scalar(column) for word, column in state["vocabulary_"].items()}
    return sorted(columns, key=columns.get), state["_tfidf"].state["idf_"]


def folds_of(path):
    """Weights, intercept, and the two numbers of the calibration, of every fold."""
    folds = []
    for fold in load(path)["calibrated_classifiers_"]:
        svm, (calibrator,) = fold.state["estimator"].state, fold.state["calibrators"]
        want(fold.state, path, method="sigmoid")
        # scikit-learn: p = 1 / (1 + exp(a margin + b)).
        slope, offset = (-scalar(calibrator.state[name]) for name in ("a_", "b_"))
        folds.append((svm["coef_"], scalar(svm["intercept_"][0]), slope, offset))
    return folds


def scorer_file(words, idf, folds, origin):
    """The bytes that `irepair` writes for this scorer: a safetensors file."""
    order = sorted(range(len(words)), key=lambda i: words[i].encode())
    floats = lambda values: struct.pack(f"<{len(values)}d", *values)
    weights = b"".join(floats([fold[0][i] for i in order]) for fold in folds)
    text = "".join(words[i] + "\n" for i in order).encode()
    parts = [
        ("bias", "F64", [len(folds)], floats([fold[1] for fold in folds])),
        ("idf", "F64", [len(words)], floats([idf[i] for i in order])),
        ("offset", "F64", [len(folds)], floats([fold[3] for fold in folds])),
        ("slope", "F64", [len(folds)], floats([fold[2] for fold in folds])),
        ("weights", "F64", [len(folds), len(words)], weights),
        ("words", "U8", [len(text)], text),
    ]
    compact = lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    manifest = {"format": 1, "kind": "tfidf", "manifest": {"rule": 1, "origin": origin}}
    header, at = {"__metadata__": {"irepair_scorer": compact(manifest)}}, 0
    for name, dtype, shape, data in parts:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    header = compact(header).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + b"".join(data for *_, data in parts)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    vectorizer, model, out, origin = sys.argv[1:]
    (words, idf), folds = words_of(vectorizer), folds_of(model)
    if len(words) != len(idf) or any(len(fold[0]) != len(words) for fold in folds):
        refuse("vectorizer and model do not have the same words")
    with open(out, "wb") as file:
        file.write(scorer_file(words, idf, folds, origin))


if __name__ == "__main__":
    main()
