"""Records parity/formats/odd.json: small odd files of pairs, and what Python and `datasets` read from them.

    python odd.py          # datasets 5.2.0, pyarrow 26.0.1, pandas 3.1.1

`python` is what `json` and `csv` of the standard library read: pairs, or null where they raise or a text is missing;
`datasets` what `load_dataset` reads of the same file, null where it raises. A value that is no text is written as JSON.
"""

import base64
import csv
import io
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import pandas
import pyarrow
import pyarrow.parquet as parquet

HERE = Path(__file__).parent
KEYS = ["prompt", "chosen", "rejected"]
P = {"prompt": "p", "chosen": " c", "rejected": " r"}
HEAD = "prompt,chosen,rejected\n"
ROW = json.dumps(P)


def other(**more):
    return json.dumps({**P, **more}, ensure_ascii=False)


TEXTS = {
    # JSON
    "plain.jsonl": ROW,
    "no-end.jsonl": f"{ROW}\n{ROW}",
    "blank-lines.jsonl": f"\n{ROW}\n\n  \n{ROW}\n\n",
    "crlf.jsonl": f"{ROW}\r\n{ROW}\r\n",
    "cr.jsonl": f"{ROW}\r{ROW}\r",
    "form-feed.jsonl": f"{ROW}\f\n{ROW}\n",
    "no-break-space.jsonl": f"{ROW}\u00a0\n{ROW}\n",
    "bom.jsonl": "\ufeff" + ROW,
    "bom-twice.jsonl": "\ufeff\ufeff" + ROW,
    "bom-inside.jsonl": f"{ROW}\n\ufeff{ROW}\n",
    "duplicate-key.jsonl": '{"prompt": "a", "chosen": " c", "rejected": " r", "prompt": "p"}',
    "trailing-comma.jsonl": '{"prompt": "p", "chosen": " c", "rejected": " r",}',
    "comma-after.jsonl": f"{ROW},\n{ROW}\n",
    "two-on-a-line.jsonl": f"{ROW} {ROW}\n",
    "comment.jsonl": f"// pairs\n{ROW}\n",
    "single-quotes.jsonl": str(P),
    "over-lines.jsonl": json.dumps(P, indent=2),
    "over-lines.json": json.dumps(P, indent=2),
    "list.json": json.dumps([P, P], indent=1),
    "list-trailing-comma.json": f"[{ROW}, {ROW},]",
    "list-then-text.json": f"[{ROW}]\n{ROW}\n",
    "list-empty.json": "[]",
    "wrapped.json": json.dumps({"data": [P, P]}),
    "columns.json": json.dumps({key: [value] for key, value in P.items()}),
    "pandas.json": pandas.DataFrame([P, P]).to_json(),
    "pandas-split.json": pandas.DataFrame([P, P]).to_json(orient="split"),
    "pandas-index.json": pandas.DataFrame([P, P]).to_json(orient="index"),
    "pandas-table.json": pandas.DataFrame([P, P]).to_json(orient="table"),
    "pandas-values.json": pandas.DataFrame([P, P]).to_json(orient="values"),
    "pandas-records.json": pandas.DataFrame([P, P]).to_json(orient="records"),
    "pandas-lines.jsonl": pandas.DataFrame([P, P]).to_json(orient="records", lines=True),
    "nan.jsonl": '{"prompt": "p", "chosen": NaN, "rejected": " r"}',
    "nan-unread.jsonl": '{"prompt": "p", "chosen": " c", "rejected": " r", "score": NaN}',
    "null.jsonl": f'{ROW}\n{other(chosen=None)}\n',
    "null-prompt.jsonl": f'{ROW}\n{other(prompt=None)}\n',
    "number.jsonl": f'{other(chosen=3)}\n',
    "true.jsonl": f'{other(chosen=True)}\n',
    "list-of-text.jsonl": f'{other(chosen=[" c"])}\n',
    "missing.jsonl": f'{ROW}\n{{"prompt": "p", "chosen": " c"}}\n',
    "other-type-later.jsonl": f'{ROW}\n{other(chosen=3)}\n',
    "surrogates.jsonl": '{"prompt": "\\ud83d\\ude42", "chosen": " c", "rejected": " r"}',
    "half-surrogate.jsonl": '{"prompt": "\\ud83d", "chosen": " c", "rejected": " r"}',
    "escapes.jsonl": '{"prompt": "\\u0000\\/\\b\\f\\u2028", "chosen": " c", "rejected": " r"}',
    "bad-escape.jsonl": '{"prompt": "\\x41", "chosen": " c", "rejected": " r"}',
    "raw-tab.jsonl": '{"prompt": "a\tb", "chosen": " c", "rejected": " r"}',
    "raw-delete.jsonl": '{"prompt": "a\x7fb\u2028c\u0085", "chosen": " c", "rejected": " r"}',
    "decomposed.jsonl": other(prompt="e\u0301\ufb01"),
    "big-number-unread.jsonl": '{"prompt": "p", "chosen": " c", "rejected": " r", "id": 123456789012345678901234567890}',
    "huge-float-unread.jsonl": '{"prompt": "p", "chosen": " c", "rejected": " r", "id": 1e999}',
    "leading-zero-unread.jsonl": '{"prompt": "p", "chosen": " c", "rejected": " r", "id": 01}',
    "case.jsonl": '{"Prompt": "p", "Chosen": " c", "Rejected": " r"}',
    "space-in-key.jsonl": '{"prompt ": "p", "chosen": " c", "rejected": " r"}',
    "empty-record.jsonl": "{}\n",
    "null-record.jsonl": f"{ROW}\nnull\n",
    "text-record.jsonl": '"a b"\n',
    # CSV
    "plain.csv": HEAD + "p, c, r\n",
    "no-end.csv": HEAD + "p, c, r",
    "crlf.csv": (HEAD + "p, c, r\np, c, r\n").replace("\n", "\r\n"),
    "cr.csv": (HEAD + "p, c, r\np, c, r\n").replace("\n", "\r"),
    "bom.csv": "\ufeff" + HEAD + "p, c, r\n",
    "quoted.csv": HEAD + '"p, ""q""\nx"," c\r\ny"," r"\n',
    "quoted-header.csv": '"prompt","chosen","rejected"\np, c, r\n',
    "quote-inside.csv": HEAD + 'a"b, c"d", r\n',
    "text-after-quote.csv": HEAD + '"a"b, c, r\n',
    "space-before-quote.csv": HEAD + 'p, "c", "r"\n',
    "backslash-quote.csv": HEAD + '"a\\"b", c, r\n',
    "open-quote.csv": HEAD + '"p, c, r\np, c, r\n',
    "blank-lines.csv": HEAD + "\np, c, r\n\n\np, c, r\n",
    "blank-with-spaces.csv": HEAD + "p, c, r\n   \n",
    "commas-only.csv": HEAD + "p, c, r\n,,\n",
    "empty-cell.csv": HEAD + "p, c, r\np,, r\n",
    "empty-quoted-cell.csv": HEAD + 'p, c, r\np,"", r\n',
    "empty-prompt.csv": HEAD + ", c, r\n",
    "na.csv": HEAD + "NA,null,None\n",
    "number.csv": HEAD + "1,2.50,007\n",
    "spaces-in-header.csv": "prompt, chosen, rejected\np, c, r\n",
    "spaces.csv": HEAD + " p , c , r \n",
    "index.csv": ",prompt,chosen,rejected\n0,p, c, r\n",
    "short-row.csv": HEAD + "p, c\n",
    "long-row.csv": HEAD + "p, c, r, more\n",
    "trailing-comma.csv": "prompt,chosen,rejected,\np, c, r,\n",
    "twice.csv": "prompt,chosen,rejected,prompt\np, c, r,q\n",
    "comment.csv": "# pairs\n" + HEAD + "p, c, r\n",
    "semicolons.csv": HEAD.replace(",", ";") + "p; c; r\n",
    "separator-line.csv": "sep=,\n" + HEAD + "p, c, r\n",
    "nul.csv": HEAD + "p\0q, c, r\n",
    "tabs.tsv": HEAD.replace(",", "\t") + "p\t c, d\t r\n",
    "quotes.tsv": HEAD.replace(",", "\t") + '"p\tq"\t c\t r\n',
}

BYTES = {
    "utf-16.jsonl": ROW.encode("utf-16"),
    "utf-16-be.jsonl": ROW.encode("utf-16-be"),
    "utf-16.csv": (HEAD + "p, c, r\n").encode("utf-16"),
    "latin-1.jsonl": other(prompt="größer").encode("latin-1"),
    "latin-1.csv": (HEAD + "größer, c, r\n").encode("latin-1"),
    "nul-after.jsonl": ROW.encode() + b"\n\0\0",
}


def columns(**more):
    return pyarrow.table({key: pyarrow.array([value, value]) for key, value in P.items()} | more)


STRUCT = pyarrow.array([[{"role": "user", "content": "a"}]] * 2)
TABLES = {
    "plain.parquet": columns(),
    "dictionary.parquet": columns(chosen=pyarrow.array([" c", " d"]).dictionary_encode()),
    "large-text.parquet": columns(chosen=pyarrow.array([" c", " d"], pyarrow.large_string())),
    "view.parquet": columns(chosen=pyarrow.array([" c", " d"], pyarrow.string_view())),
    "binary.parquet": columns(chosen=pyarrow.array([b" c", b" d"])),
    "null.parquet": columns(chosen=pyarrow.array([" c", None])),
    "all-null.parquet": columns(chosen=pyarrow.array([None, None], pyarrow.string())),
    "null-type.parquet": columns(chosen=pyarrow.nulls(2)),
    "number.parquet": columns(chosen=pyarrow.array([1, 2])),
    "list-of-text.parquet": columns(chosen=pyarrow.array([[" c"], [" d"]])),
    "nested-unread.parquet": columns(more=pyarrow.array([[[1], []], None]), messages=STRUCT),
    "date-unread.parquet": columns(more=pyarrow.array([0, 1], pyarrow.timestamp("us", tz="UTC"))),
    "no-rows.parquet": columns().slice(0, 0),
    "index.parquet": pyarrow.Table.from_pandas(pandas.DataFrame([P, P], index=["a", "b"])),
}


def pairs(records):
    """Pairs of records whose keys are there; none where one is not, or a record is none."""
    found = []
    for record in records:
        if not isinstance(record, dict) or any(key not in record for key in KEYS):
            return None
        if any("\ud800" <= c <= "\udfff" for key in KEYS for c in str(record[key])):
            return None  # no text: UTF-8 cannot write it
        found.append([record[key] if isinstance(record[key], str) else json.dumps(record[key]) for key in KEYS])
    return found


def by_python(name, path):
    try:
        if name.endswith("parquet"):
            return pairs(parquet.read_table(path).to_pylist())
        text = path.read_bytes().decode("utf-8-sig")
        if name.endswith(("csv", "tsv")):
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name.endswith("tsv") else ",", strict=True)
            return pairs(dict(row) for row in reader)
        if name.endswith("json"):
            records = json.loads(text)
            return pairs(records if isinstance(records, list) else [records])
        return pairs(json.loads(line) for line in text.split("\n") if line.strip())
    except Exception:  # noqa: BLE001 - any refusal is one
        return None


def by_datasets(name, path, cache):
    kind = {"jsonl": "json", "tsv": "csv"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1])
    more = {"sep": "\t"} if name.endswith("tsv") else {}
    try:
        return pairs(datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **more).to_list())
    except Exception:  # noqa: BLE001
        return None


def main():
    files = {name: text.encode() for name, text in TEXTS.items()} | BYTES
    golden = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [*files, *TABLES]:
            path = Path(folder) / name
            if name in files:
                path.write_bytes(files[name])
            else:
                parquet.write_table(TABLES[name], path)
            golden.append(
                {
                    "name": name,
                    "bytes": base64.b64encode(path.read_bytes()).decode(),
                    "python": by_python(name, path),
                    "datasets": by_datasets(name, path, folder + "/cache"),
                }
            )
    versions = {module.__name__: module.__version__ for module in [datasets, pyarrow, pandas]}
    rows = ",\n".join(json.dumps(row) for row in golden)
    (HERE / "odd.json").write_text(f'{{"versions": {json.dumps(versions)}, "files": [\n{rows}\n]}}\n', encoding="utf-8")


main()
