"""Token ids and logits by llama.cpp, from the library inside the wheel `xllamacpp`, which has no Python functions for them.

`llama_model_params` and `llama_context_params` are passed by value and kept opaque: a struct larger than the real one is
passed the same way, and the library reads the part that it knows. Only `vocab_only` is set, at the byte where the wheel named
in meta.json has it.
"""

import ctypes
from pathlib import Path

import xllamacpp

VOCAB_ONLY = 72


QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


class Params(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 512)]


class Batch(ctypes.Structure):
    """`llama_batch`: pointers that are null get the library's defaults, so that logits are kept of the last token alone."""
    _fields_ = [("n_tokens", ctypes.c_int32)] + [(name, ctypes.c_void_p) for name in (
        "token", "embd", "pos", "n_seq_id", "seq_id", "logits")]


def load(path, vocab_only):
    """The library, with the types of the functions used here, and a model."""
    lib = ctypes.CDLL(next(str(file) for file in Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")))
    pointer, number, flag = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool
    for name, result, arguments in (
            ("llama_model_default_params", Params, []), ("llama_context_default_params", Params, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Params]),
            ("llama_model_get_vocab", pointer, [pointer]), ("llama_vocab_n_tokens", number, [pointer]),
            ("llama_init_from_model", pointer, [pointer, Params]), ("llama_free", None, [pointer]),
            ("llama_batch_get_one", Batch, [ctypes.POINTER(number), number]), ("llama_decode", number, [pointer, Batch]),
            ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, number]),
            ("llama_model_desc", number, [pointer, ctypes.c_char_p, ctypes.c_size_t]),
            ("llama_log_set", None, [pointer, pointer]),
            ("llama_tokenize", number,
             [pointer, ctypes.c_char_p, number, ctypes.POINTER(number), number, flag, flag])):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_log_set(ctypes.cast(QUIET, pointer), None)
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    if vocab_only:
        ctypes.memset(ctypes.addressof(params) + VOCAB_ONLY, 1, 1)
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    assert model, f"llama.cpp does not load {path}"
    return lib, model


class Vocabulary:
    """The tokenizer of a GGUF file."""

    def __init__(self, path):
        self.lib, model = load(path, True)
        self.vocab = self.lib.llama_model_get_vocab(model)

    def ids(self, text):
        """Token ids; special tokens in the text count, none is added."""
        raw = text.encode()
        room = 4 * len(raw) + 8
        ids = (ctypes.c_int32 * room)()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), ids, room, False, True)
        assert n >= 0
        return list(ids[:n])


class Model(Vocabulary):
    """The model of a GGUF file."""

    def __init__(self, path):
        self.lib, self.model = load(path, False)
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.vocab)

    def kind(self):
        """Architecture, size and file type in words."""
        words = ctypes.create_string_buffer(256)
        self.lib.llama_model_desc(self.model, words, 256)
        return words.value.decode()

    def logits(self, ids, n_more=0):
        """The logits after each token, and the ids with `n_more` that are the most probable ones."""
        context = self.lib.llama_init_from_model(self.model, self.lib.llama_context_default_params())
        assert context
        ids, rows = list(ids), []
        for i in range(len(ids) + n_more):
            if i == len(ids):
                ids.append(max(range(self.n_vocab), key=rows[-1].__getitem__))
            token = (ctypes.c_int32 * 1)(ids[i])
            assert self.lib.llama_decode(context, self.lib.llama_batch_get_one(token, 1)) == 0
            rows.append(self.lib.llama_get_logits_ith(context, -1)[:self.n_vocab])
        self.lib.llama_free(context)
        return rows, ids
