"""The tiny models of every family: config.json as on the hub, and what else they have."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]  # Any: a JSON document

DECODER = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FALCON = {
    "vocab_size": 384,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
DEEPSEEK3 = DECODER | {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
ENCODER = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
POOLING = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True},
}


def model(architecture: str, model_type: str, *bases: Json, **values: Any) -> Json:
    config: Json = {"architectures": [architecture], "model_type": model_type}
    for base in bases:
        config |= base
    return config | values


FAMILIES: dict[str, Json] = {
    "llama2": {
        "config": model("LlamaForCausalLM", "llama", DECODER, rms_norm_eps=1e-5),
        "tokenizer": "sentencepiece",
    },
    "llama3": {
        "config": model(
            "LlamaForCausalLM", "llama", DECODER, rope_theta=500000.0, rope_scaling=LLAMA3
        ),
        "dtype": "F32",
    },
    "smollm3": {
        "config": model(
            "SmolLM3ForCausalLM", "smollm3", DECODER, num_hidden_layers=4, pad_token_id=0
        ),
    },
    "mistral": {
        "config": model(
            "MistralForCausalLM", "mistral", DECODER, sliding_window=None, rope_theta=1e6
        ),
        "tokenizer": "sentencepiece",
        "out_type": "auto",
    },
    "mixtral": {
        "config": model(
            "MixtralForCausalLM", "mixtral", DECODER, num_local_experts=4, num_experts_per_tok=2
        ),
        "tokenizer": "sentencepiece",
    },
    "qwen2": {
        "config": model("Qwen2ForCausalLM", "qwen2", DECODER, rope_theta=1e6),
        "files": {"generation_config.json": {"temperature": 0.7, "top_k": 20, "top_p": 0.8}},
    },
    "qwen2_moe": {
        "config": model(
            "Qwen2MoeForCausalLM",
            "qwen2_moe",
            DECODER,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=64,
        ),
    },
    "qwen3": {
        "config": model(
            "Qwen3ForCausalLM", "qwen3", DECODER, head_dim=32, tie_word_embeddings=True
        ),
        "out_type": "auto",
    },
    "qwen3_moe": {
        "config": model(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            DECODER,
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            norm_topk_prob=True,
        ),
    },
    "gemma": {
        "config": model("GemmaForCausalLM", "gemma", DECODER, head_dim=16),
        "tokenizer": "sentencepiece",
    },
    "gemma2": {
        "config": model(
            "Gemma2ForCausalLM",
            "gemma2",
            DECODER,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=64,
        ),
        "tokenizer": "sentencepiece",
        "out_type": "auto",
    },
    "gemma3": {
        "config": model(
            "Gemma3ForCausalLM",
            "gemma3_text",
            DECODER,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=64,
            rope_theta=1e6,
            rope_local_base_freq=10000.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ),
        "tokenizer": "sentencepiece",
    },
    "phi3": {
        "config": model(
            "Phi3ForCausalLM",
            "phi3",
            DECODER,
            original_max_position_embeddings=512,
            pad_token_id=0,
        ),
        "tokenizer": "sentencepiece",
    },
    "bert": {
        "config": model("BertModel", "bert", ENCODER),
        "tokenizer": "wordpiece",
        "files": POOLING,
        "pre": "default",
    },
    "roberta": {
        "config": model(
            "RobertaModel", "roberta", ENCODER, vocab_size=384, type_vocab_size=1, pad_token_id=1
        ),
        "files": POOLING,
    },
    "xlm_roberta": {
        "config": model(
            "XLMRobertaModel", "xlm-roberta", ENCODER, type_vocab_size=1, pad_token_id=1
        ),
        "tokenizer": "unigram",
        "files": POOLING,
    },
    "modernbert": {
        "config": model(
            "ModernBertModel",
            "modernbert",
            ENCODER,
            vocab_size=384,
            layer_norm_eps=1e-5,
            local_attention=32,
            global_attn_every_n_layers=3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
        ),
    },
    "gpt2": {
        "config": model(
            "GPT2LMHeadModel",
            "gpt2",
            vocab_size=384,
            n_embd=64,
            n_layer=2,
            n_head=4,
            n_positions=128,
            n_ctx=128,
            bos_token_id=1,
            eos_token_id=2,
        ),
    },
    "bloom": {
        "config": model(
            "BloomForCausalLM", "bloom", vocab_size=384, hidden_size=64, n_layer=2, n_head=4
        ),
    },
    "falcon": {
        "config": model(
            "FalconForCausalLM",
            "falcon",
            FALCON,
            num_kv_heads=2,
            new_decoder_architecture=True,
        ),
    },
    "gpt_neox": {
        "config": model(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            DECODER,
            rotary_pct=0.25,
            layer_norm_eps=1e-5,
        ),
        "raw_config": True,
    },
    "starcoder2": {
        "config": model("Starcoder2ForCausalLM", "starcoder2", DECODER, use_bias=True),
    },
    "olmo2": {"config": model("Olmo2ForCausalLM", "olmo2", DECODER)},
    "olmo3": {
        "config": model("Olmo3ForCausalLM", "olmo3", DECODER, sliding_window=64),
    },
    "granite": {
        "config": model(
            "GraniteForCausalLM",
            "granite",
            DECODER,
            attention_multiplier=0.25,
            embedding_multiplier=12.0,
            residual_multiplier=0.22,
            logits_scaling=8.0,
        ),
    },
    "stablelm": {
        "config": model(
            "StableLmForCausalLM",
            "stablelm",
            DECODER,
            partial_rotary_factor=0.25,
            use_qkv_bias=True,
        ),
    },
    "glm": {
        "config": model(
            "GlmForCausalLM", "glm", DECODER, head_dim=16, pad_token_id=0, attention_bias=True
        ),
        "no_logits": True,
    },
    "glm4": {
        "config": model(
            "Glm4ForCausalLM", "glm4", DECODER, head_dim=16, pad_token_id=0, attention_bias=True
        ),
    },
    "deepseek2": {
        "config": model(
            "DeepseekV2ForCausalLM",
            "deepseek_v2",
            DECODER,
            num_key_value_heads=4,
            q_lora_rank=32,
            kv_lora_rank=32,
            qk_rope_head_dim=16,
            qk_nope_head_dim=32,
            v_head_dim=32,
            n_routed_experts=4,
            n_shared_experts=1,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
            routed_scaling_factor=1.0,
            norm_topk_prob=False,
        ),
    },
    "deepseek3": {
        "config": model(
            "DeepseekV3ForCausalLM",
            "deepseek_v3",
            DEEPSEEK3,
            scoring_func="sigmoid",
        ),
    },
}
