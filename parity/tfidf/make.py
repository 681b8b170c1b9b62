"""Goldens of the TF-IDF scorer: a small classifier made by scikit-learn, its scorer file, and scores of 50 texts.

    python make.py [VECTORIZER.joblib MODEL.joblib]     # needs scikit-learn and joblib

Writes vectorizer.joblib, model.joblib, small.scorer, golden.json and meta.json. With the two files of another
classifier (those of alt-profanity-check 1.9.1), its scores of the same texts are written too, as `published`.
"""

import json
import pathlib
import platform
import subprocess
import sys

import joblib
import numpy
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

HERE = pathlib.Path(__file__).parent
TOXIC = ["you grubnik", "what a zorbly man", "go home, you flimp", "grubnik and zorbly", "shut up, flimp"]
CLEAN = ["have a good day", "the mill by the river", "a kind old man", "we came home late", "bread and salt for all"]
TEXTS = [
    "you grubnik", "You GRUBNIK!", "grubnik grubnik grubnik you", "a good day", "the mill, the river and the bread",
    "zorbly", "Zorbly?", "zorbly-minded man", "two grubniks", "flimp_flimp", "flimp flimp", "it is", "a", "1", "42",
    "I", "naïve grubnik", "nai\u0308ve grubnik", "GRÜBNIK", "größer", "東京 grubnik", "東京で", "привет", "ПРИВЕТ grubnik",
    "İstanbul", "ΟΔΟΣ", "ǅ grubnik", "हिन्दी grubnik", "x² + y²", "Ⅷ grubnik", "①② grubnik", "Ⓐ Ⓑ grubnik", "don't",
    "grubnik's", "grubnik\u200dzorbly", "grubnik\u00adzorbly", "grubnik\u200bzorbly", "grubnik\u0301zorbly",
    "grubnik\nzorbly\tflimp", "  good   day  ", "you're a fucking idiot", "what the hell is this shit",
    "I love you all, have a great evening", "he said she was a stupid bitch", "The committee met on Tuesday.",
    "kill yourself", "go to hell, moron", "Thanks for the update; the meeting is at 10:30.", "f*ck this", "sh1t happens",
]
assert len(TEXTS) == 50 == len(set(TEXTS))


def scores(vectorizer, model):
    return [float(p) for p in model.predict_proba(vectorizer.transform(TEXTS))[:, 1]]


def small():
    texts = [f"{text} {word}" for word in ("now", "then", "там", "größer") for text in TOXIC + CLEAN]
    labels = [text in TOXIC for _ in range(4) for text in TOXIC + CLEAN]
    vectorizer = TfidfVectorizer(stop_words="english", min_df=0.0001)
    model = CalibratedClassifierCV(LinearSVC(class_weight="balanced", dual=False, tol=1e-2), cv=5)
    return vectorizer, model.fit(vectorizer.fit_transform(texts), [int(label) for label in labels])


vectorizer, model = small()
paths = [HERE / "vectorizer.joblib", HERE / "model.joblib"]
joblib.dump(vectorizer, paths[0])
joblib.dump(model, paths[1])
export = HERE.parent.parent / "data/tfidf_scorer.py"
subprocess.run([sys.executable, export, *paths, HERE / "small.scorer", "small"], check=True)
golden = {"texts": TEXTS, "small": scores(vectorizer, model)}
if len(sys.argv) > 1:
    golden["published"] = scores(*map(joblib.load, sys.argv[1:]))
(HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
versions = {"python": platform.python_version(), "numpy": numpy.__version__, "sklearn": sklearn.__version__}
(HERE / "meta.json").write_text(json.dumps(versions | {"joblib": joblib.__version__}, indent=1) + "\n")
