"""The logits of the checkpoints next to this script, computed in bfloat16 by transformers.

run:    python make_bf16.py [CASE ...] (torch 2.11.0, transformers 5.23.0; CPU, one thread, seconds), after make.py
writes: <case>/bf16.safetensors, of the batch `chosen` (padding on both sides)
        eager   logits in bfloat16, attention written out
        sdpa    the same with torch's fused attention, where the family has it; transformers' own choice
        exact   logits in float32 of the same weights, rounded to bfloat16: eager - exact is the noise of bfloat16
        and what no matrix product enters, which pins where a family rounds, bit for bit:
        embedding                   hidden states before the first block
        norm.x, norm.y              into and out of the final norm
        rotary.x, rotary.<block>.y  12 positions before and after rotation, for a block of every kind
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

# Every family; what a family rounds elsewhere than others; factors on cosines and sines; caps on logits.
CASES = [
    "gpt2", "gpt2-scaled", "gpt-neo", "llama", "llama-yarn", "llama-odd", "qwen2", "qwen3", "mistral", "gpt-neox",
    "gpt-neox-serial", "olmo2", "olmo2-odd", "gemma2", "gemma3", "gemma3-linear", "phi3", "phi3-long", "smollm3",
]
SEED = 20261128
# GPT-Neo has no fused attention, and that of Gemma 2 would leave the caps out.
NOT_FUSED = ("gpt-neo", "gemma2")


def batch_of(case):
    golden = json.loads((HERE / case / "golden.json").read_text())["batches"]["chosen"]
    return torch.tensor(golden["ids"]), torch.tensor(golden["real"])


def load_as(case, dtype, attention="eager"):
    return AutoModelForCausalLM.from_pretrained(HERE / case / "model", attn_implementation=attention, dtype=dtype).eval()


def exact(case):
    """In float32, of the weights rounded to bfloat16."""
    model = load_as(case, torch.float32)
    for p in model.parameters():
        p.copy_(p.bfloat16().float())
    return forward(model, batch_of(case))


def parts(model, batch):
    """The parts of the model that multiply no matrices, on inputs of their own."""
    gen = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(shape, generator=gen).bfloat16()
    ids, real = batch
    states = model(input_ids=ids, attention_mask=real.long(), position_ids=positions(real), output_hidden_states=True)
    body = model.base_model
    norm = next(getattr(body, name) for name in ("norm", "final_layer_norm", "ln_f") if hasattr(body, name))
    x = 3.0 * draw(2, 12, model.config.hidden_size)
    out = {"embedding": states.hidden_states[0], "norm.x": x, "norm.y": norm(x)}
    if not hasattr(body, "rotary_emb"):
        return out
    rotate = sys.modules[type(model).__module__].apply_rotary_pos_emb
    layer_types = model.config.layer_types if model.config.model_type == "gemma3_text" else [None]
    head_dim = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    out["rotary.x"] = draw(1, 2, 12, head_dim)
    for kind in dict.fromkeys(layer_types):
        cos_sin = body.rotary_emb(x, torch.arange(12)[None], **({"layer_type": kind} if kind else {}))
        out[f"rotary.{layer_types.index(kind)}.y"] = rotate(out["rotary.x"], out["rotary.x"], *cos_sin)[0]
    return out


@torch.no_grad()
def main():
    for case in sys.argv[1:] or CASES:
        batch = batch_of(case)
        real = batch[1]
        model = load_as(case, torch.bfloat16)
        tensors = {"eager": forward(model, batch), "exact": exact(case), **parts(model, batch)}
        if not case.startswith(NOT_FUSED) or case.startswith("gpt-neox"):
            tensors["sdpa"] = forward(load_as(case, torch.bfloat16, "sdpa"), batch)
        assert all(t.dtype == torch.bfloat16 for name, t in tensors.items() if name != "exact")
        write_tensors(HERE / case / "bf16.safetensors", tensors)
        readable(HERE / case)
        rms = lambda a, b: (tensors[a].float() - tensors[b].float())[real].square().mean().sqrt().item()
        routes = f", sdpa - eager {rms('sdpa', 'eager'):.1e}" if "sdpa" in tensors else ""
        print(f"{case}: rms of logits {tensors['exact'][real].square().mean().sqrt():.2f}, "
              f"eager - exact {rms('eager', 'exact'):.1e}{routes}")


if __name__ == "__main__":
    main()
