"""DPO by TRL's trainer with its documented defaults: what `irepair fix` is compared with in docs/FIX.md.

run: python bench/trl_dpo.py MODEL PAIRS.jsonl OUT [key=value ...]    (TRL of bench/trl.txt; a value is read as JSON)

Prints one JSON object: seconds of training, updates, and the settings that were not the defaults. The lines between
the two marks are what a user has to write.
"""

import json
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
model, pairs, out, *given = sys.argv[1:]
given = {key: json.loads(value) for key, value in (word.split("=", 1) for word in given)}
start = time.monotonic()

# --- what a user has to write
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

data = load_dataset("json", data_files=pairs, split="train")
tokenizer = AutoTokenizer.from_pretrained(model)
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(model),
    args=DPOConfig(output_dir=out + "-work", save_strategy="no", report_to="none", **given),
    train_dataset=data,
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(out)
# ---

print(json.dumps({"seconds": round(time.monotonic() - start, 1), "updates": trainer.state.global_step, "given": given}))
