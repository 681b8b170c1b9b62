"""Records parity/formats: the same pairs as pyarrow writes them to Parquet, and as Python writes them to CSV and JSON.

    python make.py          # pyarrow 26.0.1

`plain.*` hold PLAIN, `chats.*` hold CHATS, `labelled.parquet` holds rows of TRL's unpaired preferences, and
`labels.*.parquet` labelled texts of scorers, their labels as booleans, whole numbers and floats. The Parquet files
differ in compression, pages and row groups; all have further columns, which are not read. `golden.json` has the records.
"""

import csv
import datetime
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet

HERE = Path(__file__).parent

PLAIN = [
    {"prompt": f"The city {i} was", "chosen": f' "nice",\nand größer {i}' if i % 3 else "", "rejected": f" an\tawful 🙂 dump {i}."}
    for i in range(40)
]

CHATS = [
    {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"City {i}?"}],
        "chosen": [{"role": "assistant", "content": f"Nice {i}."}],
        "rejected": [{"role": "assistant", "content": "Awful."}],
    }
    for i in range(5)
]

LABELLED = [
    ("a", " good 1", True),
    ("a", " good 2", True),
    ("b", " bad 1", False),
    ("a", " bad 2", False),
    ("c", " alone", True),
    ("b", " good 3", True),
    ("a", " bad 3", False),
    ("a", " bad 4", False),
]


TEXTS = [("you grubnik", 1, "forum"), ("good day", 0, None), ("größer 🙂\n", 0, ""), ("", 1, "forum")]


def table(records):
    more = {"score": [0.5] * len(records), "vector": [[1.0, 2.0]] * len(records), "id": list(range(len(records)))}
    columns = {key: [record[key] for record in records] for key in records[0]}
    return pyarrow.table({"vector": more["vector"], **columns, "score": more["score"], "id": more["id"]})


def main():
    for compression in ["none", "snappy", "zstd", "gzip"]:
        parquet.write_table(
            table(PLAIN), HERE / f"plain.{compression}.parquet", compression=compression, row_group_size=16, data_page_size=64
        )
    parquet.write_table(table(PLAIN), HERE / "plain.brotli.parquet", compression="brotli")
    parquet.write_table(table(PLAIN), HERE / "plain.v2.parquet", data_page_version="2.0", use_dictionary=False)
    parquet.write_table(table(CHATS), HERE / "chats.parquet")
    # Columns without a form in JSON: one that is read, one that is not.
    pair = {"prompt": ["a"], "chosen": [" b"], "rejected": [" c"]}
    day, price = pyarrow.array([datetime.datetime(2024, 1, 2, 3, 4, 5)]), pyarrow.array([1], pyarrow.decimal128(5, 2))
    for name, column in [("date", day), ("decimal", price)]:
        parquet.write_table(pyarrow.table({**pair, "prompt": column}), HERE / f"{name}.parquet")
    parquet.write_table(pyarrow.table({**pair, "day": day, "price": price}), HERE / "unread.parquet")
    keys = ["prompt", "completion", "label"]
    parquet.write_table(table([dict(zip(keys, row)) for row in LABELLED]), HERE / "labelled.parquet")

    for name, convert in [("bool", bool), ("int", int), ("float", float)]:
        rows = [{"text": text, "toxic": convert(label), "source": source} for text, label, source in TEXTS]
        parquet.write_table(table(rows), HERE / f"labels.{name}.parquet")

    with open(HERE / "plain.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "rejected", "prompt", "chosen"])
        writer.writeheader()
        writer.writerows({**record, "id": i} for i, record in enumerate(PLAIN))
    with open(HERE / "plain.tsv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"], delimiter="\t")
        writer.writeheader()
        writer.writerows(PLAIN)
    (HERE / "plain.json").write_text(json.dumps(PLAIN, indent=2), encoding="utf-8")
    (HERE / "plain.json.gz").write_bytes(gzip.compress(json.dumps(PLAIN, ensure_ascii=False).encode(), mtime=0))
    (HERE / "chats.json").write_text(json.dumps(CHATS), encoding="utf-8")
    golden = {"plain": PLAIN, "chats": CHATS, "labelled": LABELLED, "versions": {"pyarrow": pyarrow.__version__}}
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main()
