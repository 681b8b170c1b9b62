"""A judge of endless repetition: the share of an answer that is one piece of text, three times or more in a row.

Reads JSON lines {"prompt", "text"}, writes one line {"score"} for each; Python's standard library alone.
"""

import json
import re
import sys

# A piece of up to 80 characters, at least twice more.
LOOP = re.compile(r"(.{1,80}?)\1{2,}", re.DOTALL)
# Shorter loops are laughter, dots and lines.
SHORTEST = 12


def score(text):
    text = " ".join(text.split())
    loops = [len(found.group()) for found in LOOP.finditer(text)]
    longest = max((n for n in loops if n >= SHORTEST), default=0)
    return longest / max(len(text), 1)


for line in sys.stdin:
    print(json.dumps({"score": score(json.loads(line)["text"])}), flush=True)
