"""The metrics of METHOD §10 on text files, from the file to the number, one text at a time.

run:    python make_texts.py    (torch 2.11.0, transformers 5.23.0; seconds, CPU only), after ../tokenizer/make.py
reads:  ../tokenizer/whole/tokenizer.json
writes: model/  a random GPT-2 with that tokenizer;  texts/  the files;  texts.json  the metrics;  texts_meta.json

Conventions
  wiki        rows of the Hub: a line of the raw file with its line end, nothing where it is blank; joined with two line
              ends, tokenised once; windows as in make.py. wiki.jsonl holds the same rows.
  wiki_word   pages of the raw text split at line ends, each from a heading ` = Title = ` on, blank ones left out; the
              log-likelihood of the page made ordinary text, pieces of n_positions tokens after [EOS], the last piece with
              a full context before it; words are the parts between runs of white space, of the page as it stood.
  lambada     all but the last word, then a space and the last word, tokenised apart. lambada_corpus: wiki's join.
  blimp       sum of log p after [EOS].
  hellaswag   sum of log p of a space and the ending after the beginning, tokenised together; also per byte of the ending.
  f1          greedy tokens after the first prompt_tokens tokens of a prompt against what follows in prompt + continuation,
              both cut to n_new tokens or the length of the truth.
"""

import random
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

from transformers import PreTrainedTokenizerFast  # noqa: E402

SEED = 20250701
CONTEXT = 64
SMALLEST_GAP = 1e-3  # between what is compared
TOKENIZER = HERE.parent / "tokenizer" / "whole" / "tokenizer.json"
FIRST, LAST = 12, 8  # prompt and new tokens of the F1

WIKI = """\

 = The old mill = 
 
 The old mill ( Anna 's " great mill " ) is a mill by the river ; it cost 1 @,@ 204 @.@ 5 crowns , and was built in 1804 – 06 . 
 It stands at 12 ° north [ sic ] of the { small } barn : who knows ? Tom ' s well @-@ known bridge ! 
 
 = = History = = 
 
 = = = First years = = = 
 
 The millers ' guild sold N of them in /' 9/ and the ' new ' ones in /' 9 / . 
 = = = = Deep = = = = 
 Otto met Dora at the mill . Dora met Otto at the mill . Anna met them all by the bridge , at the barn and at the river . 
 
 = Dora = 
 
 Dora ( born 1790 ; died 1851 ) said " good day " to Anna , to Tom , to Otto and to the whole village by the river . 
\t
 She was a miller . ( An open bracket is left as it is . 
"""
CLOZE = [
    "Anna met Tom by the river and Tom met Anna at the mill",
    "The barn is old , and so is the mill , the bridge and the river by which they stand ; " * 3 + "so is Dora",
    "good day",
    "Otto sold the old mill to Dora 's brother Émile",
]
BLIMP = [
    ("Anna sells the mill.", "Anna sell the mill."),
    ("The millers were by the river.", "The millers was by the river."),
    ("Who did Tom meet?", "Who did Tom meet Otto?"),
    ("No one has ever seen it.", "Someone has ever seen it at all."),
    ("It is a mill.", "Is a it mill."),
]
HELLASWAG = [
    {"ind": 1, "activity_label": "Milling", "ctx_a": "A man stands by the river.", "ctx_b": "the Man", "ctx": "unread",
     "endings": ["walks into the old mill and sells it to Anna.", "sings.", "is a river.", "met."], "label": "0"},
    {"ctx": "How to mill [header] Take some corn. [title] Wait for wind [step] ",
     "endings": ["[substeps] Open the mill.", "Sell  it [now] to Otto, to Dora and to all of them.", "Go."], "label": 2},
    {"ctx": "Dora said", "endings": ["good day, said Émile.", "no."], "label": 1},
    {"ctx": "The mill by the river is old and so is the barn by the bridge, " * 4 + "and",
     "endings": ["so is Tom.", "so was the river by the mill."], "label": "1"},
    {"ctx": "Tom met", "endings": ["Anna.", "Otto at the mill by the river.", "him"], "label": 0},
]
F1 = [
    {"prompt": {"text": "The old mill"}, "continuation": {"text": " by the river was sold to Anna by the miller."}},
    {"prompt": "Dora said good day to Anna, to Tom, to Otto", "continuation": " and to the whole village."},
    {"prompt": "Tom", "continuation": " left."},
]

# The replacements that make a WikiText page ordinary text, in their order: (pattern, replacement) of `re.sub`.
ORDINARY = [
    ("s '", "s'"), (r"/' [0-9]/", r"/'[0-9]/"),
    (" @-@ ", "-"), (" @,@ ", ","), (" @[.]@ ", "."),
    *[(f" {re.escape(mark)} ", f"{mark} ") for mark in ":;.!?,"],
    *[(rf"{a}\s*([^{b}]*?)\s*{b}", rf"{c}\1{d}") for a, b, c, d in
      [(r"\(", r"\)", "(", ")"), (r"\[", r"\]", "[", "]"), ("{", "}", "{", "}"), ('"', '"', '"', '"'), ("'", "'", "'", "'")]],
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="),
    (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
]


def ordinary(page):
    for pattern, replacement in ORDINARY:
        page = re.sub(pattern, replacement, page)
    return page


def pages(text):
    found, page = [], []
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            found.append(page)
            page = []
        page.append(line)
    return ["\n".join(page) for page in [*found, page] if "\n".join(page).strip()]


class Reader:
    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.eos = model, tokenizer, tokenizer.convert_tokens_to_ids("<|endoftext|>")

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def logits(self, tokens):
        return self.model(input_ids=torch.tensor([tokens])).logits[0]

    def log_probs(self, context, target):
        """Log-probability of each target token; the last one is not read."""
        predictions = self.logits((context + target)[:-1])[-len(target):].log_softmax(-1)
        return predictions, predictions.gather(-1, torch.tensor(target)[:, None]).squeeze(-1)

    def perplexity(self, tokens, window, stride):
        total, count, seen = 0.0, 0, 0
        for start in range(0, len(tokens), stride):
            end = min(start + window, len(tokens))
            ids = torch.tensor([tokens[start:end]])
            labels = ids.clone()
            labels[:, : seen - start] = -100
            if end - start > 1:
                total += (end - seen) * self.model(input_ids=ids, labels=labels).loss.item()
                count += end - seen
            seen = end
            if end == len(tokens):
                break
        return {"window": window, "stride": stride, "n": count, "perplexity": math.exp(total / count)}

    def document(self, tokens):
        whole, done, total = [self.eos] + tokens, 0, 0.0
        while done < len(tokens):
            n = min(CONTEXT, len(tokens) - done)
            end = 1 + done + n
            context = whole[max(0, end - CONTEXT - 1): end - n]
            total += self.log_probs(context, whole[end - n: end])[1].sum().item()
            done += n
        return total

    def greedy(self, tokens, n):
        tokens = list(tokens)
        for _ in range(n):
            best = self.logits(tokens)[-1].topk(2)
            assert best.values[0] - best.values[1] > SMALLEST_GAP
            tokens.append(best.indices[0].item())
        return tokens[-n:]


def foreseen(reader, n):
    """A text, and the `n` greedy tokens after it as text, printable and to come back as the same tokens."""
    draw = random.Random(SEED)
    while True:
        text = " ".join(draw.choices(WIKI.split(), k=draw.randint(2, 9)))
        try:
            tokens = reader.greedy(reader.ids(text)[:FIRST], n)
        except AssertionError:  # too close a call to be a golden
            continue
        said = reader.tokenizer.decode(tokens)
        if len(reader.ids(text)) <= FIRST and re.fullmatch(r" [!-~]+" if n == 1 else r"[ -~]+", said) and reader.ids(said) == tokens:
            return text, said


def lambada(reader, texts):
    correct, sums = [], []
    for text in texts:
        context, word = text.rsplit(" ", 1)
        target = reader.ids(" " + word)
        context = reader.ids(context)[-(CONTEXT - len(target)):]
        predictions, found = reader.log_probs(context, target)
        best = predictions.topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > SMALLEST_GAP
        correct.append(predictions.argmax(-1).tolist() == target)
        sums.append(found.sum().item())
    return {"accuracy_percent": 100 * sum(correct) / len(texts), "perplexity": math.exp(-sum(sums) / len(texts)),
            "corpus": reader.perplexity(reader.ids("\n\n".join(texts)), CONTEXT, CONTEXT)}


def blimp(reader):
    gaps = []
    for pair in BLIMP:
        good, bad = (reader.log_probs([reader.eos], reader.ids(text))[1].sum().item() for text in pair)
        gaps.append(good - bad)
    assert min(map(abs, gaps)) > SMALLEST_GAP and 0 < sum(g > 0 for g in gaps) < len(gaps)
    return 100 * sum(g > 0 for g in gaps) / len(gaps)


def hellaswag_text(text):
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def hellaswag(reader):
    hits, n_truncated = [], 0
    for q in HELLASWAG:
        parts = "activity_label" in q
        beginning = f"{q['activity_label']}: {q['ctx_a']} {q['ctx_b'].capitalize()}" if parts else q["ctx"]
        beginning = hellaswag_text(beginning)
        context = beginning.rstrip()
        sums, per_byte, cut = [], [], False
        for ending in map(hellaswag_text, q["endings"]):
            whole, n_context = reader.ids(f"{beginning} {ending}"), len(reader.ids(context))
            assert whole[:n_context] == reader.ids(context)
            cut = cut or len(whole) > CONTEXT
            sums.append(reader.log_probs(whole[:n_context][-(CONTEXT - len(whole) + n_context):], whole[n_context:])[1].sum().item())
            per_byte.append(sums[-1] / len(ending.strip().encode()))
        n_truncated += cut
        for values in (sums, per_byte):
            top = sorted(values)
            assert top[-1] - top[-2] > SMALLEST_GAP
        hits.append([values.index(max(values)) == int(q["label"]) for values in (sums, per_byte)])
    by_sum, by_bytes = (100 * sum(h) / len(HELLASWAG) for h in zip(*hits))
    assert by_sum != by_bytes
    return {"accuracy_percent": by_sum, "by_bytes_percent": by_bytes, "n_truncated": n_truncated}


def f1(reader, items):
    text = lambda value: value if isinstance(value, str) else value["text"]
    scores = []
    for item in items:
        prompt, rest = reader.ids(text(item["prompt"])), reader.ids(text(item["continuation"]))
        truth = (prompt[FIRST:] + rest)[:LAST]
        written = reader.greedy(prompt[:FIRST], LAST)[: len(truth)]
        scores.append(2 * (Counter(truth) & Counter(written)).total() / (len(truth) + len(written)))
    return {"prompt_tokens": FIRST, "n_new": LAST, "scores": scores, "mean": sum(scores) / len(scores)}


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), newline="")


@torch.no_grad()
def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    home = fresh_dir(HERE / "model")
    new_model(gpt2_config(n_layer=2, n_embd=16, n_head=2, vocab=len(tokenizer)), SEED).save_pretrained(home)
    shutil.copyfile(TOKENIZER, home / "tokenizer.json")
    readable(home)
    reader = Reader(load(home), tokenizer)

    known, word = foreseen(reader, 1)
    cloze = [*CLOZE, known + word]
    prompt, said = foreseen(reader, 2)
    continued = [*F1, {"prompt": prompt, "continuation": said + " by the river"}, {"prompt": prompt, "continuation": said}]

    texts = fresh_dir(HERE / "texts")
    rows = [line if line.strip() else "" for line in WIKI.splitlines(keepends=True)]
    (texts / "wiki.txt").write_text(WIKI, newline="")
    write_jsonl(texts / "wiki.jsonl", [{"text": row} for row in rows])
    write_jsonl(texts / "lambada.jsonl", [{"text": text} for text in cloze])
    write_jsonl(texts / "blimp.jsonl", [{"sentence_good": good, "sentence_bad": bad} for good, bad in BLIMP])
    write_jsonl(texts / "hellaswag.jsonl", HELLASWAG)
    write_jsonl(texts / "f1.jsonl", continued)

    tokens = reader.ids("\n\n".join(rows))
    documents = [{"page": page, "ordinary": ordinary(page), "n_words": len(re.split(r"\s+", page))} for page in pages(WIKI)]
    log_likelihood = [reader.document(reader.ids(d["ordinary"])) for d in documents]
    write_jsonl(texts / "pages.jsonl", documents)
    n_words = sum(d["n_words"] for d in documents)
    write_json(HERE / "texts.json", {
        "wiki_tokens": tokens,
        "wiki": [reader.perplexity(tokens, CONTEXT, CONTEXT), reader.perplexity(tokens, CONTEXT, 24)],
        "wiki_word": {"log_likelihood": log_likelihood, "n": n_words,
                      "perplexity": math.exp(-sum(log_likelihood) / n_words)},
        "lambada": lambada(reader, cloze),
        "blimp_percent": blimp(reader),
        "hellaswag": hellaswag(reader),
        "f1": f1(reader, continued),
    })
    write_meta(HERE / "texts_meta.json", SEED, {"model": model_hash(home)}, generator="parity/eval/make_texts.py")


if __name__ == "__main__":
    main()
