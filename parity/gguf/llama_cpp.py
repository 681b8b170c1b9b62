"""Token ids by llama.cpp, from the library inside the wheel `xllamacpp`, which has no Python function for them.

`llama_model_params` is passed by value and kept opaque: a struct larger than the real one is passed the same way, and the
library reads the part that it knows. Only `vocab_only` is set, at the byte where the wheel named in meta.json has it.
"""

import ctypes
from pathlib import Path

import xllamacpp

VOCAB_ONLY = 72


class Params(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 512)]


class Vocabulary:
    """The tokenizer of a GGUF file."""

    def __init__(self, path):
        lib = ctypes.CDLL(next(str(file) for file in Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")))
        lib.llama_model_default_params.restype = Params
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        lib.llama_model_get_vocab.restype = ctypes.c_void_p
        lib.llama_tokenize.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32,
            ctypes.c_bool, ctypes.c_bool]
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        ctypes.memset(ctypes.addressof(params) + VOCAB_ONLY, 1, 1)
        model = lib.llama_model_load_from_file(str(path).encode(), params)
        assert model, f"llama.cpp does not load {path}"
        self.lib, self.vocab = lib, lib.llama_model_get_vocab(model)

    def ids(self, text):
        """Token ids; special tokens in the text count, none is added."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (ctypes.c_int32 * room)()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), ids, room, False, True)
        assert n >= 0
        return list(ids[:n])
