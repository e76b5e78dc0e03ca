"""What LangChain asks of an Ollama: a whole answer, a streamed one, one that keeps a schema."""

from __future__ import annotations

import sys

from langchain_ollama import ChatOllama
from pydantic import BaseModel

SURE = "Repeat: one two three four five six seven eight nine."  # no other token is nearly as likely


class Person(BaseModel):
    """What the model must answer with."""

    name: str
    age: int


def main(url: str) -> None:
    model = ChatOllama(model="smollm2", base_url=url, temperature=0, num_predict=16)
    whole = model.invoke(SURE)
    streamed = "".join(str(piece.content) for piece in model.stream(SURE))
    assert whole.content == streamed != ""
    assert whole.response_metadata["done"]
    assert whole.usage_metadata
    assert whole.usage_metadata["output_tokens"] <= 16
    shaped = ChatOllama(model="smollm2", base_url=url, temperature=0, num_predict=64)
    person = shaped.with_structured_output(Person, method="json_schema").invoke("Ada is 36.")
    assert isinstance(person, Person)


if __name__ == "__main__":
    main(sys.argv[1])
