"""Writes tiny classifiers, and with each a golden.json: the scores of some texts by transformers.

run:    python parity/classifier/make.py        needs: torch, transformers, tokenizers
reads:  nothing. Weights are drawn here from seeded generators; the tokenizers are trained on the texts below.

Every text goes through the model alone, without padding, in float32 and with eager attention. `score` is the rule of
irepair: softmax and the sum of the toxic labels, or sigmoid and the largest of them for multi-label classifiers.
"""

import json
import os
import platform
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, DistilBertConfig, RobertaConfig
from transformers import BertForSequenceClassification, DistilBertForSequenceClassification
from transformers import RobertaForSequenceClassification

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
HERE = Path(__file__).parent

TEXTS = [
    "Anna met Tom at the mill by the river.",
    "the mill",
    "You grubnik! Zorbly, zorbly grubnik.",
    "größer: 東京 ☃",
    "a",
    "",
    "the river by the mill by the river by the mill by the river by the mill by the river by the mill by the barn",
    "GOOD   day,\n\tAnna [SEP] </s>",
]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS[:3], trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False))
    ids = {name: tokenizer.token_to_id(name) for name in special}
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    # Stored settings that a classifier does not need.
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(7)
    return tokenizer


def byte_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS[:3], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def labels(*names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def bert(**more):
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, max_position_embeddings=24)
    return BertConfig(**(sizes | more))


def distilbert(**more):
    return DistilBertConfig(**(dict(dim=16, n_layers=2, n_heads=4, hidden_dim=24, max_position_embeddings=24) | more))


def roberta(**more):
    # Two positions more than tokens: RoBERTa counts them from the pad id plus one.
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, max_position_embeddings=26)
    return RobertaConfig(**(sizes | dict(type_vocab_size=1) | more))


BERT, DISTIL, ROBERTA = BertForSequenceClassification, DistilBertForSequenceClassification, RobertaForSequenceClassification
MULTI, SINGLE = "multi_label_classification", "single_label_classification"

# name: class, config, tokenizer, toxic labels, options
CASES = {
    "bert": (BERT, bert(problem_type=SINGLE, **labels("non-toxic", "toxic")), wordpiece, [1], {}),
    "bert-multi-sharded": (
        BERT,
        bert(problem_type=MULTI, hidden_act="gelu_new", layer_norm_eps=1e-3, **labels("toxic", "insult", "male", "threat")),
        wordpiece,
        [0, 1, 3],
        {"shard": "20KB"},
    ),
    "bert-older-names": (BERT, bert(hidden_act="relu", **labels("hate", "offensive", "neither")), wordpiece, [0, 1], {"older": True}),
    "roberta": (ROBERTA, roberta(**labels("neutral", "toxic")), byte_bpe, [1], {}),
    "roberta-one-label": (
        ROBERTA,
        roberta(hidden_size=24, num_attention_heads=3, num_hidden_layers=3, **labels("toxicity")),
        byte_bpe,
        [0],
        {"dtype": torch.float16},
    ),
    "distilbert": (DISTIL, distilbert(problem_type=SINGLE, **labels("LABEL_0", "LABEL_1")), wordpiece, [1], {"choice": "LABEL_1"}),
    "distilbert-multi": (DISTIL, distilbert(activation="relu", problem_type=MULTI, **labels("obscene", "threat")), wordpiece, [0, 1], {}),
}


def build(name, seed, cls, config, make_tokenizer, toxic, options):
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tokenizer = make_tokenizer()
    config.vocab_size = tokenizer.get_vocab_size()
    config._attn_implementation = "eager"
    model = cls(config).eval()
    # No value is left neutral, so that a swapped norm or a forgotten bias changes the result.
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=gen)
            p.copy_(1 + 0.2 * noise if "norm" in key.lower() and key.endswith("weight") else 0.3 * noise)
    if "dtype" in options:
        model = model.to(options["dtype"])
    model.save_pretrained(out / "model", max_shard_size=options.get("shard", "50GB"))
    model = model.float()
    if options.get("older"):
        older_names(out / "model" / "model.safetensors")
    tokenizer.save(str(out / "model" / "tokenizer.json"))

    tokenizer.no_padding()
    longest = config.max_position_embeddings - (2 if cls is ROBERTA else 0)
    tokenizer.enable_truncation(longest)
    texts = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0]
        if config.problem_type == MULTI or config.num_labels == 1:
            score = torch.sigmoid(logits)[toxic].max()
        else:
            score = torch.softmax(logits, 0)[toxic].sum()
        texts.append({"text": text, "ids": ids, "logits": logits.tolist(), "score": score.item()})
    golden = {"choice": options.get("choice"), "texts": texts}
    (out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def older_names(path):
    """LayerNorm's names in the first BERT checkpoints, and the buffer that old versions of transformers stored."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    rename = lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    tensors = {rename(k): v for k, v in tensors.items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(24).unsqueeze(0)
    save_file(tensors, path, metadata={"format": "pt"})


for seed, (name, case) in enumerate(CASES.items()):
    build(name, seed, *case)
(HERE / "meta.json").write_text(
    json.dumps(
        {
            "generator": "parity/classifier/make.py",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "python": platform.python_version(),
            "seeds": "0, 1, ... in the order of the cases",
            "dtype": "float32",
            "device": "cpu",
        },
        indent=1,
    )
    + "\n"
)
