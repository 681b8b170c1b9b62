"""Texts made up from a seed: words, numbers, code, emoji, scripts, combining marks, runs of white space, special tokens."""

import random

WORDS = "the mill river Anna's they're we'LL DON'T barn größer naïve I'VE e-mail snake_case CamelCase x² ½ Ⅷ".split()
SCRIPTS = ["東京都に住む", "Привет, мир", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "한국어 문장", "Ελληνικά", "١٢٣٤", "𝒳𝒴"]
EMOJI = ["🙂", "👩‍👩‍👧‍👦", "👍🏽", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "🇨🇭"]
CODE = [
    "for (int i = 0; i < 10; ++i) {\n\tx[i] += 1;\n}", "def f(x):\n    return x**2  # square\n", "<a href=\"/x?y=1&z=2\">b</a>",
    "SELECT * FROM t WHERE id='7';", "\\begin{eqnarray} \\alpha_{12} &=& 3.14e-7 \\end{eqnarray}", "if __name__ == '__main__':",
]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", "\u2028", "\u200b", " \t \n", "        "]
MARKS = ["e\u0301", "n\u0303o", "a\u0308", "\u0301", "क\u094d", "\u202eabc\u202c", "\ufeff", "\u0085", "\u001f"]
PUNCTUATION = ["!!!", "...", "—", "“quoted”", "(a)", "@user", "#tag", "$5.00", "100%", "a/b", "¿qué?", "…", "''", "'s", "'S", "'ſ"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end", "<fim>", "[PAD300]"]


def piece(rng):
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice(WORDS)
    if kind == 3:
        return str(rng.randrange(10 ** rng.randrange(1, 9)))
    return rng.choice([SCRIPTS, EMOJI, CODE, SPACES, MARKS, PUNCTUATION][kind - 4])


def made_up(n, seed, special=True):
    """`n` texts of up to 12 pieces, the same for the same seed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        text = ""
        for _ in range(rng.randrange(1, 13)):
            text += piece(rng) + rng.choice(["", " ", " ", "  ", "\n"])
            if special and rng.random() < 0.03:
                text += rng.choice(SPECIAL)
        texts.append(text)
    return texts
