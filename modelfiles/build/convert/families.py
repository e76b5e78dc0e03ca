"""Which module converts which architecture."""

from __future__ import annotations

from .bert import Bert, DistilBert, Roberta, XlmRoberta
from .bert_kin import JinaBert2, ModernBert, NomicBert
from .bloom import Bloom
from .deepseek import Deepseek2
from .errors import CannotRun, UnknownArchitecture
from .falcon import Falcon
from .family import Family
from .gemma import EmbeddingGemma, Gemma, Gemma2, Gemma3
from .glm import ChatGlm, Glm4
from .gpt2 import Gpt2
from .gptneox import GptNeox
from .granite import Granite
from .llama import Llama, Mistral, Mixtral, SmolLm3
from .olmo2 import Olmo2, Olmo3
from .phi3 import Phi3
from .qwen import Qwen2, Qwen2Moe, Qwen3, Qwen3Moe
from .stablelm import StableLm
from .starcoder2 import Starcoder2

_FAMILIES: tuple[type[Family], ...] = (
    Bert,
    Bloom,
    ChatGlm,
    Deepseek2,
    DistilBert,
    EmbeddingGemma,
    Falcon,
    Gemma,
    Gemma2,
    Gemma3,
    Glm4,
    Gpt2,
    GptNeox,
    Granite,
    JinaBert2,
    Llama,
    Mistral,
    Mixtral,
    ModernBert,
    NomicBert,
    Olmo2,
    Olmo3,
    Phi3,
    Qwen2,
    Qwen2Moe,
    Qwen3,
    Qwen3Moe,
    Roberta,
    SmolLm3,
    StableLm,
    Starcoder2,
    XlmRoberta,
)
_BY_NAME = {name: family for family in _FAMILIES for name in family.architectures}
_NEVER = {"OPTForCausalLM", "OPTModel"}


def family_of(architecture: str) -> type[Family]:
    """Raises CannotRun or UnknownArchitecture when there is none."""
    if architecture in _NEVER:
        raise CannotRun(architecture)
    if architecture not in _BY_NAME:
        raise UnknownArchitecture(architecture)
    return _BY_NAME[architecture]


def family_named(name: str) -> type[Family] | None:
    """The family of GGUF's architecture `name`: of several the plainest."""
    found = [family for family in _FAMILIES if family.name() == name]
    return min(found, key=lambda family: len(family.__mro__), default=None)
