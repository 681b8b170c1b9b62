"""Tokenizers by class: what transformers 4 and 5 make of one `tokenizer.json` under every class, model type and setting.

run:    TRANSFORMERS_4=DIR python make.py      (transformers 5.23.0 and sentencepiece; in DIR, 4.57.1; minutes)
writes: golden.json
          texts       what is encoded; the ids of each are decoded again
          models      the models of tokenizers: one of bytes, one of SentencePiece (a BPE, converted by transformers 4)
          kinds       the other parts of a `tokenizer.json`
          results     ids and texts, each once
          cases       kind, class, model_type, further settings, whether `tokenizer.model` is there, and the indices
                      of the results of version 4 and of version 5; null where the version refuses the directory
          decoded     `clean_up_tokenization_spaces`: settings, and text of both versions

Transformers 5 rebuilds some classes from vocabulary and merges, and leaves out the rest of `tokenizer.json`. Ids are
those without special tokens: the tokens before and after texts have a test of their own (`sources.rs`).
"""

import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

HERE = Path(__file__).parent
TEXTS = [
    "In 2024 there were 1234567 cats",
    "don't  you\n\n think  so ",
    " café cafe\u0301 HELLO'S (((x)))!!",
    "hello<|end|>the cat<|end|> sat on 12 mats",
]
CORPUS = ["In 2024 there were 1234567 cats, don't  you\n\n think café hello HELLO'S 12345 (((x))) the cat sat on the mat ...!!"] * 5
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TYPES = ["gpt2", "llama", "qwen2", "qwen3", "mistral", "gpt_neox", "olmo2", "gemma3_text", "phi3", "smollm3"]
CLASSES = [None, "GPT2Tokenizer", "Qwen2TokenizerFast", "LlamaTokenizer", "GemmaTokenizerFast", "GPTNeoXTokenizerFast",
           "PreTrainedTokenizerFast", "TokenizersBackend"]
OF_SPM = ["prepend", "meta-first", "meta-always", "meta-never"]


def byte_model():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [word for line in CORPUS for word in line.split(" ")]
    trainer = trainers.BpeTrainer(vocab_size=340, show_progress=False, special_tokens=["<|end|>", "<s>"],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(words + [" " + word for word in words] * 2 + ["!\n\n", "  ", "2024", "12"] * 4, trainer)
    return json.loads(tokenizer.to_str())["model"]


def spm_model():
    """A SentencePiece BPE, its bytes, and the model that transformers 4 makes of it."""
    import sentencepiece
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=made, vocab_size=330, model_type="bpe", byte_fallback=True,
        user_defined_symbols=["<|end|>"], normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=1.0, num_threads=1, hard_vocab_limit=False, allow_whitespace_only_pieces=True, minloglevel=2)
    return made.getvalue()


def kinds():
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    bytes_of = lambda prefix, regex=True: pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    series, split = pre_tokenizers.Sequence, lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    meta = lambda scheme: pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    byte, pieces = decoders.ByteLevel(), [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    plain, stripped = decoders.Sequence(pieces), decoders.Sequence(pieces + [decoders.Strip(" ", 1, 0)])
    made = {
        "bytes": (None, bytes_of(False), byte),
        "bytes-prefix": (None, bytes_of(True), byte),
        "series": (None, series([bytes_of(False)]), byte),
        "series-prefix": (None, series([bytes_of(True)]), byte),
        "digits": (None, series([pre_tokenizers.Digits(individual_digits=True), bytes_of(False)]), byte),
        "llama3": (None, series([split(QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), bytes_of(False, False)]), byte),
        "qwen": (normalizers.NFC(), series([split(QWEN), bytes_of(False, False)]), byte),
        "qwen-prefix": (normalizers.NFC(), series([split(QWEN), bytes_of(True, False)]), byte),
        "neox": (normalizers.NFC(), bytes_of(False), byte),
        "gemma": (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), plain),
        "prepend": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, stripped),
        "meta-first": (None, meta("first"), stripped),
        "meta-always": (None, meta("always"), stripped),
        "meta-never": (None, meta("never"), plain),
    }
    part = lambda value: None if value is None else json.loads(value.__getstate__())
    names = ["normalizer", "pre_tokenizer", "decoder"]
    return {kind: dict(zip(names, map(part, parts))) for kind, parts in made.items()}


def cases():
    """Kind, class, type, settings, `tokenizer.model`."""
    found = []
    of_bytes = [kind for kind in kinds() if kind not in OF_SPM + ["gemma"]]
    for kind in of_bytes + ["gemma"] + OF_SPM:
        for name in CLASSES:
            for model_type in TYPES:
                found.append((kind, name, model_type, {}, False))
    for kind in of_bytes:
        for name in CLASSES[:4] + ["PreTrainedTokenizerFast"]:
            for model_type in ["gpt2", "llama", "qwen2", "qwen3"]:
                for given in [True, False]:
                    found.append((kind, name, model_type, {"add_prefix_space": given}, False))
    for kind in OF_SPM:
        for name in [None, "LlamaTokenizer"]:
            for model_type in ["llama", "mistral", "phi3"]:
                for legacy in [None, True, False]:
                    for given in [None, True, False]:
                        more = {"legacy": legacy, "add_prefix_space": given}
                        for has_model in [False, True]:
                            more = {key: value for key, value in more.items() if value is not None}
                            found.append((kind, name, model_type, more, has_model))
    return found


def write(path, golden, case):
    kind, name, model_type, more, has_model = case
    of_spm = kind in OF_SPM + ["gemma"]
    model = golden["models"]["pieces" if of_spm else "bytes"]
    vocab = model["vocab"]
    special = [token for token in ["<unk>", "<s>", "</s>", "<|end|>"] if token in vocab]
    added = [{"id": vocab[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for token in special]
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **golden["kinds"][kind],
             "post_processor": None, "model": model}
    (path / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    (path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "<|end|>", "unk_token": "<unk>" if of_spm else "<|end|>", "pad_token": "<|end|>",
              "add_bos_token": False, **({"mask_token": "<|end|>"} if of_spm else {}), **more}
    if name is not None:
        config["tokenizer_class"] = name
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if has_model:
        (path / "tokenizer.model").write_bytes(bytes.fromhex(golden["spm"]))


WORDS = ["a", ".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re", "b", "do"]
UP = {"clean_up_tokenization_spaces": True}
FORCED = {"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True}
CLEANED = [(kind, more) for kind in ["WordLevel", "BPE", "Unigram"] for more in [{}, UP, {"clean_up_tokenization_spaces": False}, FORCED, {**UP, **FORCED}]]


def clean_case(kind, more):
    """A tokenizer whose decoder joins words by spaces."""
    vocab = {"<unk>": 0, "<|end|>": 1, **{word: i + 2 for i, word in enumerate(WORDS)}}
    model = {"type": kind, "vocab": vocab, "unk_token": "<unk>"}
    if kind == "BPE":
        model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "ignore_merges": True}
    if kind == "Unigram":
        model = {"type": "Unigram", "vocab": [[word, -1.0] for word in vocab], "unk_id": 0}
    end = {"id": 1, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
             "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None, "model": model}
    return whole, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", **more}


CLEAN_TEXT = "a . b ? a ! do n't , ' a ' 'm a 's 've b 're . a b"


def results(golden):
    """Ids of every case by the version that runs, as JSON; null where it refuses."""
    import transformers
    from transformers import AutoTokenizer
    transformers.logging.set_verbosity_error()
    found, decoded = [], []
    for case in cases():
        with tempfile.TemporaryDirectory() as path:
            write(Path(path), golden, case)
            try:
                tokenizer = AutoTokenizer.from_pretrained(path)
                ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
                texts = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
                found.append(json.dumps([ids, texts], ensure_ascii=False))
            except Exception:  # noqa: BLE001 - any refusal is one
                found.append(None)
    for kind, more in CLEANED:
        with tempfile.TemporaryDirectory() as path:
            whole, config = clean_case(kind, more)
            (Path(path) / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
            (Path(path) / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            (Path(path) / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
            tokenizer = AutoTokenizer.from_pretrained(path)
            decoded.append(tokenizer.decode(tokenizer(CLEAN_TEXT)["input_ids"], skip_special_tokens=True))
    return {"version": transformers.__version__, "found": found, "decoded": decoded}


def of_version(golden, more):
    """`results` in a process of its own."""
    with tempfile.TemporaryDirectory() as path:
        given, made = Path(path, "golden"), Path(path, "made")
        given.write_text(json.dumps(golden), encoding="utf-8")
        subprocess.run([sys.executable, __file__, str(given), str(made)], check=True, env={**os.environ, **more})
        return json.loads(made.read_text(encoding="utf-8"))


def converted(model):
    """The BPE that transformers 4 makes of a SentencePiece model."""
    code = "import sys, json; from transformers import LlamaTokenizerFast\n"
    code += "print(json.dumps(json.loads(LlamaTokenizerFast(vocab_file=sys.argv[1]).backend_tokenizer.to_str())['model']))"
    with tempfile.TemporaryDirectory() as path:
        file = Path(path, "tokenizer.model")
        file.write_bytes(model)
        done = subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True, env={**os.environ, **four()})
    return json.loads(done.stdout)


def four():
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ["TRANSFORMERS_4"], before]))}


def main():
    if len(sys.argv) > 2:
        golden = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        Path(sys.argv[2]).write_text(json.dumps(results(golden)), encoding="utf-8")
        return
    spm = spm_model()
    golden = {"models": {"bytes": byte_model(), "pieces": converted(spm)}, "kinds": kinds(), "spm": spm.hex()}
    old, new = of_version(golden, four()), of_version(golden, {})
    unique = sorted({text for text in old["found"] + new["found"] if text is not None})
    index = {text: i for i, text in enumerate(unique)} | {None: None}
    rows = [[*case, index[a], index[b]] for case, a, b in zip(cases(), old["found"], new["found"])]
    decoded = [{"kind": kind, "tokenizer": clean_case(kind, more)[0], "config": clean_case(kind, more)[1], "text": CLEAN_TEXT, "old": a, "new": b}
               for (kind, more), a, b in zip(CLEANED, old["decoded"], new["decoded"])]
    lines = lambda values: "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"
    import tokenizers
    versions = {"transformers": [old["version"], new["version"]], "tokenizers": tokenizers.__version__, "python": platform.python_version()}
    parts = {"versions": json.dumps(versions), "texts": json.dumps(TEXTS, ensure_ascii=False), "models": json.dumps(golden["models"], ensure_ascii=False),
             "kinds": json.dumps(golden["kinds"], ensure_ascii=False), "results": lines(map(json.loads, unique)), "cases": lines(rows), "decoded": lines(decoded)}
    text = "{\n" + ",\n".join(f'"{key}": {value}' for key, value in parts.items()) + "\n}\n"
    (HERE / "golden.json").write_text(text, encoding="utf-8")
    print(len(rows), "cases", len(unique), "results", sum(a != b for *_, a, b in rows), "differ")


main()
