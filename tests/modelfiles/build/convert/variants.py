"""Tiny models with other files, or another configuration, than is usual in their family."""

from __future__ import annotations

from families import DECODER, DEEPSEEK3, FALCON, LLAMA3, Json, model


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


VARIANTS: dict[str, Json] = {
    "llama2_json": {
        "config": model("LlamaForCausalLM", "llama", DECODER, vocab_size=303),
        "tokenizer": "fallback",
        "out_type": "auto",
    },
    "llama3_template": {
        "config": model(
            "LlamaForCausalLM",
            "llama",
            DECODER,
            rope_theta=500000.0,
            rope_scaling=LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192},
            head_dim=32,
            tie_word_embeddings=True,
            pad_token_id=None,
        ),
        "tokenizer": "bpe_template",
    },
    "llama_new_style": {
        "config": model(
            "LlamaForCausalLM",
            "llama",
            DECODER,
            head_dim=32,
            attention_bias=True,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0},
        ),
        "out_type": "f32",
    },
    "qwen2_yarn": {
        "config": model(
            "Qwen2ForCausalLM",
            "qwen2",
            DECODER,
            rope_theta=1e6,
            rope_scaling={
                "type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        ),
        "out_type": "bf16",
    },
    "gemma_json": {  # without the tokenizer.model that upstream's converter insists on
        "config": model("GemmaForCausalLM", "gemma", DECODER, head_dim=16, vocab_size=304),
        "tokenizer": "fallback",
        "no_upstream": True,
    },
    "gemma3_images": {  # of which only the language model is converted
        "config": {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": {
                **DECODER,
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
    "phi3_long": {
        "config": model(
            "Phi3ForCausalLM",
            "phi3",
            DECODER,
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
    "gpt2_files": {
        "config": model(
            "GPT2LMHeadModel", "gpt2", vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_ctx=1024
        ),
        "tokenizer": "bpe_files",
    },
    "falcon_7b": {
        "config": model(
            "FalconForCausalLM",
            "falcon",
            FALCON,
            multi_query=True,
            new_decoder_architecture=False,
            layer_norm_epsilon=1e-5,
        ),
        "raw_config": True,
    },
    "stablelm_norms": {
        "config": model(
            "StableLmForCausalLM",
            "stablelm",
            DECODER,
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
    # llama.cpp insists on what these repositories do without, so upstream's files don't load
    "olmo2_tied": {
        "config": model("Olmo2ForCausalLM", "olmo2", DECODER, tie_word_embeddings=True),
        "no_upstream": True,
    },
    "gpt_neox_tied": {
        "config": model(
            "GPTNeoXForCausalLM",
            "gpt_neox",
            DECODER,
            attention_bias=False,
            tie_word_embeddings=True,
        ),
        "no_upstream": True,
    },
    "starcoder2_plain": {
        "config": model("Starcoder2ForCausalLM", "starcoder2", DECODER, use_bias=False),
        "no_upstream": True,
    },
    "falcon_11b": {
        "config": model(
            "FalconForCausalLM",
            "falcon",
            FALCON,
            num_kv_heads=2,
            new_decoder_architecture=True,
            num_ln_in_parallel_attn=1,
            ffn_hidden_size=128,
            tie_word_embeddings=False,
        ),
        "no_upstream": True,
    },
    "deepseek3_mute": {  # transformers writes no scoring_func, as its class knows only one
        "config": model(
            "DeepseekV3ForCausalLM",
            "deepseek_v3",
            DEEPSEEK3,
        ),
        "no_upstream": True,
    },
}
