"""Records parity/chat/expressions.json: what Jinja, as transformers sets it up, makes of one expression or tag each.

    python make_expressions.py

`expressions.txt` has one template a line. `error` stands for an exception of any kind.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent

ARGUMENTS = {"city": "Zürich", "n": 3, "x": 0.5, "tiny": 1e-7, "huge": 1e22, "deep": {"b": [1, None, True], "a": ""},
             "items": "I", "keys": 1, "odd": "it's\n\u200b\u00a0\U000e0001 \"x\""}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hello  World\n"},
    {"role": "assistant", "content": "Hi <b>you</b> & 'me'", "items": "it", "count": 2, "pop": 1,
     "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}]},
    {"role": "tool", "content": "ok"},
    {"role": "user", "content": [{"type": "text", "text": "part"}]},
]
TOOLS = [{"type": "function", "function": {"name": "w", "description": "D <x>", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "items": {"type": "number"}}}, "required": ["city"]}}}]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def made(template):
    try:
        rendered, _ = render_jinja_template([MESSAGES], tools=TOOLS, chat_template=template, **SPECIAL)
        return {"template": template, "text": rendered[0]}
    except Exception as error:  # noqa: BLE001 - any refusal is one
        return {"template": template, "error": f"{type(error).__name__}: {error}"[:200]}


def main():
    templates = (HERE / "expressions.txt").read_text(encoding="utf-8").splitlines()
    golden = {
        "versions": {m.__name__: m.__version__ for m in [transformers, jinja2]},
        "special": SPECIAL,
        "messages": MESSAGES,
        "tools": TOOLS,
        "rendered": [made(template) for template in templates],
    }
    (HERE / "expressions.json").write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


main()
