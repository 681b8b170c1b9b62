"""Small GPT-2 tokenizers in every form they are stored in, and the results of transformers' GPT2TokenizerFast on texts.

run:    python make.py             (transformers 5.23.0, tokenizers as in meta.json; seconds)
writes: <case>/                    tokenizer files as a checkpoint directory has them
        <case>/golden.json         by text: ids without start token, the text decoded without special tokens; eos, size;
                                   `texts`: ids as tokenizer(text) gives them, where they differ
        texts.json                 the texts
        meta.json                  versions

The vocabulary is trained here on the texts below; `<|endoftext|>` is the last token, as in the published GPT-2.
"""

import json
import os
import platform
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2TokenizerFast

transformers.logging.set_verbosity_error()
HERE = Path(__file__).resolve().parent
EOT = "<|endoftext|>"
N_VOCAB = 300

CORPUS = [
    "the mill by the river and the barn by the mill", "Anna went to the mill, and the miller's wife didn't.",
    "they're here; we'll see what he'd said, I've heard.", "the the the and and and river river",
]
TEXTS = [
    "", " ", "  ", "the mill", " the mill", "the mill ", "  the   mill  ", "\n", "\r\n", "the\r\nmill\r\n", "the\n\nmill\n \n",
    "\tthe\tmill", "the\u00a0mill", "a\u0000b", "\u0000", "naïve café größer", "cafe\u0301", "東京 ☃ русский", "🙂", "👩‍👩‍👧‍👦 👍🏽",
    "\ud83c\udff4\U000e0067\U000e0062\U000e007f".encode("utf-16", "surrogatepass").decode("utf-16"),
    "שלום עולם", "مرحبا بالعالم", "\u202ethe mill\u202c", "\ufeffthe mill", "\ufffd", "\U0010ffff", "they're we'LL I'VE didn't 's", "don’t",
    "1234567 3.14 1,000", "!!!...???", "a_b __init__", "½ ² Ⅷ ١٢٣", EOT, f"the{EOT}mill", f"{EOT}{EOT}", f" {EOT} ", f"the {EOT} mill",
    "<|endoftext|", "<|ENDOFTEXT|>", "[PAD]", "the [PAD] mill", "the[PAD]mill", "<new>", "the <new> mill", "the<new>mill",
    "themillword the millword", " millword ", "<strip>", "the  <strip>  mill", "the <word> a<word>b", "Ġthe Ċ", "ĠĠ",
    "the mill . the mill , isn't ; n't 'm", "the\u2028mill\u0085\u001f", "x" * 70, " " * 70,
]


def trained():
    """Vocabulary and merges of a byte-level BPE, with `<|endoftext|>` as the last token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB - 1, min_frequency=1, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"] | {EOT: len(model["vocab"])}, [tuple(pair) for pair in model["merges"]]


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def older_form(path, vocab, merges, **files):
    """`vocab.json` and `merges.txt`, as the published GPT-2, and JSON files with them."""
    write(path / "vocab.json", vocab)
    (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    for name, value in files.items():
        write(path / f"{name}.json", value)


def whole_form(path, vocab, merges, added=(), special=None, **config):
    """What save_pretrained writes: `tokenizer.json` and `tokenizer_config.json`."""
    tokenizer = GPT2TokenizerFast(vocab=vocab, merges=merges, **config)
    if added:
        tokenizer.add_tokens(list(added))
    if special:
        tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(path)


def whole_with(path, vocab, merges, changes, config):
    """The whole form with other things in its two files."""
    whole_form(path, vocab, merges)
    for name, values in (("tokenizer", changes), ("tokenizer_config", config)):
        file = path / f"{name}.json"
        write(file, json.loads(file.read_text()) | values)


def token(content, special, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
            "special": special} | flags


def begin(number):
    """A post-processor that puts `<s>` before every text."""
    special, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [special, text], "pair": [special, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [number], "tokens": ["<s>"]}}}


def cases(vocab, merges):
    """`name -> function that writes the files`."""
    eot, n = vocab[EOT], len(vocab)
    plain = tokenizers.AddedToken
    decoder = {str(eot): token(EOT, True, normalized=True), str(n): token("[PAD]", True), str(n + 1): token("<new>", False),
               str(n + 2): token("millword", False, normalized=True), str(n + 3): token("<strip>", True, lstrip=True, rstrip=True),
               str(n + 4): token("<word>", True, single_word=True)}
    names = {"bos_token": EOT, "eos_token": EOT, "unk_token": EOT}
    legacy = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": 1024} | names
    return {
        "whole": lambda path: whole_form(path, vocab, merges),
        "whole-added": lambda path: whole_form(
            path, vocab, merges, added=[plain("<new>", normalized=False), plain("millword"),
                                        plain("<word>", single_word=True, normalized=False)],
            special={"pad_token": "[PAD]"}),
        "whole-prefix-space": lambda path: whole_form(path, vocab, merges, add_prefix_space=True),
        # Left from training; a tokenizer applies neither unless the caller requests it.
        "whole-truncation": lambda path: whole_with(path, vocab, merges, {
            "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": eot,
                        "pad_type_id": 0, "pad_token": EOT}}, {}),
        "whole-begin": lambda path: whole_with(path, vocab, merges, {"post_processor": begin(eot + 1), "added_tokens": [
            {"id": eot, **token(EOT, True)}, {"id": eot + 1, **token("<s>", True)}]}, {"bos_token": "<s>", "add_bos_token": False}),
        "whole-named-later": lambda path: whole_with(path, vocab, merges, {}, {
            "pad_token": "[PAD]", "extra_special_tokens": ["<new>", token("<strip>", True, lstrip=True) | {"__type": "AddedToken"}]}),
        "older": lambda path: older_form(path, vocab, merges),
        "older-config": lambda path: older_form(path, vocab, merges, tokenizer_config=legacy),
        "older-prefix-space": lambda path: older_form(
            path, vocab, merges, tokenizer_config=legacy | {"add_prefix_space": True}),
        "older-added-file": lambda path: older_form(
            path, vocab, merges, added_tokens={"[PAD]": n, "<new>": n + 1, "millword": n + 2}, tokenizer_config=legacy | {"pad_token": "[PAD]"},
            special_tokens_map=names | {"pad_token": "[PAD]"}),
        "older-added-decoder": lambda path: older_form(
            path, vocab, merges, tokenizer_config=legacy | {"pad_token": "[PAD]", "added_tokens_decoder": decoder}),
        "older-eos-object": lambda path: older_form(
            path, vocab, merges, tokenizer_config=legacy | {
                "eos_token": token("[END]", True) | {"__type": "AddedToken"}, "added_tokens_decoder": {str(n): token("[END]", True)}}),
        "older-eos-map": lambda path: older_form(
            path, vocab, merges, added_tokens={"[END]": n}, special_tokens_map={"eos_token": "[END]"}),
        "older-no-eot-in-vocab": lambda path: older_form(
            path, {k: v for k, v in vocab.items() if k != EOT}, merges, tokenizer_config=legacy | {
                "added_tokens_decoder": {str(eot): token(EOT, True)}}),
    }


def main():
    vocab, merges = trained()
    write(HERE / "texts.json", TEXTS)
    for name, files in cases(vocab, merges).items():
        path = HERE / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        files(path)
        tokenizer = GPT2TokenizerFast.from_pretrained(path)
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        texts = [tokenizer(text)["input_ids"] for text in TEXTS]
        begun = {} if texts == rows else {"texts": [" ".join(map(str, row)) for row in texts]}
        write(path / "golden.json", begun | {
            "n_tokens": len(tokenizer), "eos_id": tokenizer.eos_token_id, "pad": tokenizer.pad_token,
            "ids": [" ".join(map(str, row)) for row in rows],
            "decoded": [tokenizer.decode(row, skip_special_tokens=True) for row in rows]})
        for file in path.iterdir():
            file.chmod(0o644)
        print(f"{name}: {len(tokenizer)} tokens, eos {tokenizer.eos_token_id}, pad {tokenizer.pad_token}")
    write(HERE / "meta.json", {
        "generator": "parity/tokenizer/make.py", "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "python": platform.python_version()})


if __name__ == "__main__":
    main()
