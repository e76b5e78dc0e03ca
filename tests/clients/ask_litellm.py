"""What LiteLLM asks, as Ollama, as OpenAI and as Anthropic."""

from __future__ import annotations

import sys
from typing import Any

import litellm
from litellm.exceptions import NotFoundError

TURNS = [{"role": "user", "content": "Repeat: one two three four five six seven eight nine."}]


def main(url: str) -> None:
    common: dict[str, Any] = {"messages": TURNS, "max_tokens": 8, "temperature": 0, "api_key": "x"}
    for model, base in (
        ("ollama_chat/smollm2", url),
        ("openai/smollm2", f"{url}/v1"),
        ("anthropic/smollm2", url),
    ):
        whole: Any = litellm.completion(model=model, api_base=base, **common)
        pieces: Any = litellm.completion(model=model, api_base=base, stream=True, **common)
        streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert whole.choices[0].message.content == streamed != "", model
        assert whole.choices[0].finish_reason == "length", model
        assert whole.usage.completion_tokens == 8, model
    try:
        litellm.completion(model="openai/nosuch", api_base=f"{url}/v1", **common)
    except NotFoundError as error:
        assert "model 'nosuch' not found" in str(error)
    else:
        raise AssertionError("a missing model is an error")


if __name__ == "__main__":
    main(sys.argv[1])
