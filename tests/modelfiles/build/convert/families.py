"""The tiny models of every family: config.json as on the hub, and what else they have."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]  # Any: a JSON document

_DECODER = {
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
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_ENCODER = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_POOLING = {
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


def _model(architecture: str, model_type: str, *bases: Json, **values: Any) -> Json:
    config: Json = {"architectures": [architecture], "model_type": model_type}
    for base in bases:
        config |= base
    return config | values


def _chatglm3() -> dict[str, list[int]]:
    """The makers' own names, which transformers does not know."""
    tensors = {
        "embedding.word_embeddings.weight": [384, 64],
        "encoder.final_layernorm.weight": [64],
        "output_layer.weight": [384, 64],
        "rotary_pos_emb.inv_freq": [4],
    }
    for number in range(2):
        layer = f"encoder.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": [64],
            f"{layer}.self_attention.query_key_value.weight": [128, 64],
            f"{layer}.self_attention.query_key_value.bias": [128],
            f"{layer}.self_attention.dense.weight": [64, 64],
            f"{layer}.post_attention_layernorm.weight": [64],
            f"{layer}.mlp.dense_h_to_4h.weight": [192, 64],
            f"{layer}.mlp.dense_4h_to_h.weight": [64, 96],
        }
    return {f"transformer.{name}": shape for name, shape in tensors.items()}


FAMILIES: dict[str, Json] = {
    "llama2": {
        "config": _model("LlamaForCausalLM", "llama", _DECODER, rms_norm_eps=1e-5),
        "tokenizer": "sentencepiece",
    },
    "llama2_json": {
        "config": _model("LlamaForCausalLM", "llama", _DECODER, vocab_size=303),
        "tokenizer": "fallback",
        "out_type": "auto",
    },
    "llama3": {
        "config": _model(
            "LlamaForCausalLM", "llama", _DECODER, rope_theta=500000.0, rope_scaling=_LLAMA3
        ),
        "dtype": "F32",
    },
    "llama3_template": {
        "config": _model(
            "LlamaForCausalLM",
            "llama",
            _DECODER,
            rope_theta=500000.0,
            rope_scaling=_LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192},
            head_dim=32,
            tie_word_embeddings=True,
            pad_token_id=None,
        ),
        "tokenizer": "bpe_template",
    },
    "llama_new_style": {
        "config": _model(
            "LlamaForCausalLM",
            "llama",
            _DECODER,
            head_dim=32,
            attention_bias=True,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0},
        ),
        "out_type": "f32",
    },
    "mistral": {
        "config": _model(
            "MistralForCausalLM", "mistral", _DECODER, sliding_window=None, rope_theta=1e6
        ),
        "tokenizer": "sentencepiece",
        "out_type": "auto",
    },
    "mixtral": {
        "config": _model(
            "MixtralForCausalLM", "mixtral", _DECODER, num_local_experts=4, num_experts_per_tok=2
        ),
        "tokenizer": "sentencepiece",
    },
    "qwen2": {
        "config": _model("Qwen2ForCausalLM", "qwen2", _DECODER, rope_theta=1e6),
        "files": {"generation_config.json": {"temperature": 0.7, "top_k": 20, "top_p": 0.8}},
    },
    "qwen2_yarn": {
        "config": _model(
            "Qwen2ForCausalLM",
            "qwen2",
            _DECODER,
            rope_theta=1e6,
            rope_scaling={
                "type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        ),
        "out_type": "bf16",
    },
    "qwen2_moe": {
        "config": _model(
            "Qwen2MoeForCausalLM",
            "qwen2_moe",
            _DECODER,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=64,
        ),
    },
    "qwen3": {
        "config": _model(
            "Qwen3ForCausalLM", "qwen3", _DECODER, head_dim=32, tie_word_embeddings=True
        ),
        "out_type": "auto",
    },
    "qwen3_moe": {
        "config": _model(
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            _DECODER,
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            norm_topk_prob=True,
        ),
    },
    "gemma": {
        "config": _model("GemmaForCausalLM", "gemma", _DECODER, head_dim=16),
        "tokenizer": "sentencepiece",
    },
    "gemma2": {
        "config": _model(
            "Gemma2ForCausalLM",
            "gemma2",
            _DECODER,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=64,
        ),
        "tokenizer": "sentencepiece",
        "out_type": "auto",
    },
    "gemma3": {
        "config": _model(
            "Gemma3ForCausalLM",
            "gemma3_text",
            _DECODER,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=64,
            rope_theta=1e6,
            rope_local_base_freq=10000.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ),
        "tokenizer": "sentencepiece",
    },
    "gemma3_images": {  # of which only the language model is converted
        "config": {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": {
                **_DECODER,
                "model_type": "gemma3_text",
                "head_dim": 16,
                "query_pre_attn_scalar": 16,
                "sliding_window": 64,
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
        },
        "tokenizer": "sentencepiece",
    },
    "phi3": {
        "config": _model(
            "Phi3ForCausalLM",
            "phi3",
            _DECODER,
            original_max_position_embeddings=512,
            pad_token_id=0,
        ),
        "tokenizer": "sentencepiece",
    },
    "phi3_long": {
        "config": _model(
            "Phi3ForCausalLM",
            "phi3",
            _DECODER,
            original_max_position_embeddings=128,
            pad_token_id=0,
            rope_scaling={
                "type": "longrope",
                "long_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 4.0],
                "short_factor": [1.0, 1.0, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2],
            },
        ),
        "tokenizer": "sentencepiece",
        "no_logits": True,
    },
    "bert": {
        "config": _model("BertModel", "bert", _ENCODER),
        "tokenizer": "wordpiece",
        "files": _POOLING,
        "pre": "default",
    },
    "roberta": {
        "config": _model(
            "RobertaModel", "roberta", _ENCODER, vocab_size=384, type_vocab_size=1, pad_token_id=1
        ),
        "files": _POOLING,
    },
    "xlm_roberta": {
        "config": _model(
            "XLMRobertaModel", "xlm-roberta", _ENCODER, type_vocab_size=1, pad_token_id=1
        ),
        "tokenizer": "unigram",
        "files": _POOLING,
    },
    "modernbert": {
        "config": _model(
            "ModernBertModel",
            "modernbert",
            _ENCODER,
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
        "config": _model(
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
    "gpt2_files": {
        "config": _model(
            "GPT2LMHeadModel", "gpt2", vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_ctx=1024
        ),
        "tokenizer": "bpe_files",
    },
    "bloom": {
        "config": _model(
            "BloomForCausalLM", "bloom", vocab_size=384, hidden_size=64, n_layer=2, n_head=4
        ),
    },
    "falcon": {
        "config": _model(
            "FalconForCausalLM",
            "falcon",
            vocab_size=384,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_kv_heads=2,
            new_decoder_architecture=True,
        ),
    },
    "falcon_7b": {
        "config": _model(
            "FalconForCausalLM",
            "falcon",
            vocab_size=384,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            multi_query=True,
            new_decoder_architecture=False,
            layer_norm_epsilon=1e-5,
        ),
        "raw_config": True,
    },
    "gpt_neox": {
        "config": _model(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            _DECODER,
            rotary_pct=0.25,
            layer_norm_eps=1e-5,
        ),
        "raw_config": True,
    },
    "starcoder2": {
        "config": _model("Starcoder2ForCausalLM", "starcoder2", _DECODER, use_bias=True),
    },
    "olmo2": {"config": _model("Olmo2ForCausalLM", "olmo2", _DECODER)},
    "olmo3": {
        "config": _model("Olmo3ForCausalLM", "olmo3", _DECODER, sliding_window=64),
    },
    "granite": {
        "config": _model(
            "GraniteForCausalLM",
            "granite",
            _DECODER,
            attention_multiplier=0.25,
            embedding_multiplier=12.0,
            residual_multiplier=0.22,
            logits_scaling=8.0,
        ),
    },
    "stablelm": {
        "config": _model(
            "StableLmForCausalLM",
            "stablelm",
            _DECODER,
            partial_rotary_factor=0.25,
            use_qkv_bias=True,
        ),
    },
    "stablelm_norms": {
        "config": _model(
            "StableLmForCausalLM",
            "stablelm",
            _DECODER,
            partial_rotary_factor=0.25,
            qk_layernorm=True,
            use_parallel_residual=True,
        ),
        "no_upstream": True,
    },
    "chatglm3": {
        "config": {
            "architectures": ["ChatGLMModel"],
            "model_type": "chatglm",
            "_name_or_path": "THUDM/chatglm3-6b",
            "add_qkv_bias": True,
            "hidden_size": 64,
            "ffn_hidden_size": 96,
            "num_layers": 2,
            "num_attention_heads": 4,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "padded_vocab_size": 384,
            "seq_length": 512,
            "layernorm_epsilon": 1e-5,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        "tensors": _chatglm3(),
        "tokenizer": "sentencepiece",
        "own_tokenizer": True,
        "no_logits": True,
    },
    "glm": {
        "config": _model(
            "GlmForCausalLM", "glm", _DECODER, head_dim=16, pad_token_id=0, attention_bias=True
        ),
        "no_logits": True,
    },
    "glm4": {
        "config": _model(
            "Glm4ForCausalLM", "glm4", _DECODER, head_dim=16, pad_token_id=0, attention_bias=True
        ),
    },
    "deepseek2": {
        "config": _model(
            "DeepseekV2ForCausalLM",
            "deepseek_v2",
            _DECODER,
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
        "config": _model(
            "DeepseekV3ForCausalLM",
            "deepseek_v3",
            _DECODER,
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
            scoring_func="sigmoid",
            routed_scaling_factor=2.5,
            norm_topk_prob=True,
        ),
    },
}
