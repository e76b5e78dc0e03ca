"""Records what transformers calculates with all-MiniLM-L6-v2, for the tests to compare with.

    python make_vectors.py PATH_OF_THE_REPOSITORY > vectors.json

Needs torch and transformers, which qm itself does without.
"""

from __future__ import annotations

import json
import math
import sys

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = (
    "hello world",
    "",
    "The cat sat on the mat.",
    "A kitten rests on a rug.",
    "def add(a, b):\n    return a + b",
    "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. 日本語 🙂",
    "word " * 300,
)
QUERY = "Where does the cat sleep?"


def main(repository: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(repository)
    model = AutoModel.from_pretrained(repository).eval()
    vectors = []
    with torch.no_grad():
        for text in TEXTS:
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
            mean = model(**tokens).last_hidden_state[0].mean(0)
            vectors.append((mean / mean.norm()).tolist())
        head = torch.tensor([math.sin(i) for i in range(model.config.hidden_size)])
        scores = []
        for text in TEXTS:
            tokens = tokenizer(QUERY, text, return_tensors="pt", truncation=True, max_length=512)
            tokens["token_type_ids"].zero_()  # llama.cpp knows one segment
            scores.append(float(model(**tokens).last_hidden_state[0, 0] @ head))
    rounded = [[round(number, 5) for number in vector] for vector in vectors]
    document = {"texts": TEXTS, "vectors": rounded, "query": QUERY, "scores": scores}
    json.dump(document, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main(sys.argv[1])
