"""A step log as the event file that TensorBoard writes of it.

run:    python make.py (tensorboard 2.20; seconds, CPU)
writes: metrics.jsonl, golden.tfevents; checks that TensorBoard's own reader finds every scalar
"""

import json
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = Path(__file__).resolve().parent
END = 1_700_000_010.0
# No KL, then one; a gradient of 0; step numbers of two bytes; validations before, between and at the end.
RECORDS = [
    {"step": 0, "loss": 2.5, "nll": 2.5, "kl": None, "grad_norm": 0.0, "lr": 1e-5, "slice": [0], "tokens": 12,
     "seconds": 0.5, "validation_loss_before": 2.75},
    {"step": 1, "loss": -0.125, "nll": 2.25, "kl": 0.0, "grad_norm": 3.5, "lr": 2e-5, "slice": [1, 2], "tokens": 9,
     "seconds": 1.25, "validation_loss": 2.5},
    {"step": 130, "loss": 0.1, "nll": None, "kl": 1e-9, "grad_norm": 1e6, "lr": 0.0, "slice": [1], "tokens": 9,
     "seconds": 0.25},
    {"step": 300, "loss": 7.0, "nll": 1.0, "kl": None, "grad_norm": 1.0, "lr": 1e-3, "slice": [3], "tokens": 1,
     "seconds": 4.0, "validation_loss": 1.5, "spike": True},
]


def scalars(record):
    """`(step, tag, value)`, in the order of the file, event by event."""
    step = record["step"]
    part = lambda at, pairs: [(at, tag, value) for tag, value in pairs if value is not None]
    names = ("loss", "nll", "kl", "grad_norm", "lr")
    return [part(step, [("validation/loss", record.get("validation_loss_before"))]),
            part(step, [(f"train/{name}", record[name]) for name in names]),
            part(step + 1, [("validation/loss", record.get("validation_loss"))])]


def main():
    (HERE / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    time, want = END - sum(record["seconds"] for record in RECORDS), {}
    with open(HERE / "golden.tfevents", "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time, file_version="brain.Event:2").SerializeToString())
        for record in RECORDS:
            for index, part in enumerate(scalars(record)):
                time += record["seconds"] if index == 1 else 0.0
                for step, tag, value in part:
                    want.setdefault(tag, []).append((step, value))
                if part:
                    values = [Summary.Value(tag=tag, simple_value=value) for _, tag, value in part]
                    event = Event(wall_time=time, step=part[0][0], summary=Summary(value=values))
                    writer.write(event.SerializeToString())
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "events.out.tfevents.irepair").write_bytes((HERE / "golden.tfevents").read_bytes())
        read = EventAccumulator(place).Reload()
        got = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert got.keys() == want.keys()
    for tag, points in want.items():
        assert [step for step, _ in got[tag]] == [step for step, _ in points], tag
        assert all(abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(got[tag], points)), tag
    print({tag: len(points) for tag, points in got.items()}, sum(map(len, got.values())), "scalars")


if __name__ == "__main__":
    main()
