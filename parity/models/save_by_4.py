"""Saves a checkpoint with transformers 4, for make.py: `python save_by_4.py FROM TO CONFIG.json`, transformers 4.57.1 on PYTHONPATH.

FROM holds weights that transformers 5 saved, CONFIG.json the arguments of the model's configuration in the words of
transformers 4. TO gets the checkpoint, and `TO/../logits.safetensors` what transformers 4 computes of the tokens 0 to 30.
"""

import json
import sys
from pathlib import Path

import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

assert transformers.__version__.startswith("4."), transformers.__version__
source, target, config = map(Path, sys.argv[1:])
config = AutoConfig.for_model(**json.loads(config.read_text()))
config._attn_implementation = "eager"
model = AutoModelForCausalLM.from_config(config).eval()
weights = safetensors.torch.load_file(source / "model.safetensors")
if hasattr(model, "embed_out"):
    weights = {name.replace("lm_head.", "embed_out."): tensor for name, tensor in weights.items()}
missing, unexpected = model.load_state_dict(weights, strict=False)
assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
model.tie_weights()
model.save_pretrained(target)
with torch.no_grad():
    logits = model(input_ids=torch.arange(31)[None]).logits
safetensors.torch.save_file({"logits": logits.contiguous()}, target.parent / "logits.safetensors")
