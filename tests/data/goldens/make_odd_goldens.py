"""More of make_goldens.py's kind: odd dimensions, sliding windows, every kind of rotary scaling.

    python make_odd_goldens.py OUT
"""
import os, sys
import make_goldens as goldens

BASE = dict(vocab_size=301, hidden_size=72, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=256, rms_norm_eps=1e-5,
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)
QWEN = dict(intermediate_size=96, decoder_sparse_step=1, mlp_only_layers=[])

def v(model_type, **kw):
    return dict(model_type=model_type, **{**BASE, **kw})

VARIANTS = {
  "deepseek_v3-odd": v("deepseek_v3", q_lora_rank=None, kv_lora_rank=20, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=14, n_routed_experts=6,
      num_experts_per_tok=2, n_shared_experts=2, moe_intermediate_size=22, intermediate_size=50, first_k_dense_replace=0, n_group=3, topk_group=2,
      norm_topk_prob=False, routed_scaling_factor=1.7, num_key_value_heads=3),
  "deepseek_v3-halfrope": v("deepseek_v3", q_lora_rank=18, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=8,
      num_experts_per_tok=3, n_shared_experts=1, moe_intermediate_size=32, intermediate_size=96, first_k_dense_replace=1, n_group=1, topk_group=1,
      norm_topk_prob=True, rope_interleave=False, num_key_value_heads=3, tie_word_embeddings=True,
      rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707)),
  "qwen3_moe-llama3": v("qwen3_moe", **{**QWEN, "hidden_size": 56, "num_attention_heads": 6}, head_dim=20, num_key_value_heads=2, num_experts=5,
      num_experts_per_tok=5, moe_intermediate_size=18, norm_topk_prob=True,
      rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
  "qwen3_moe-window": v("qwen3_moe", **{**QWEN, "num_hidden_layers": 3}, head_dim=24, num_key_value_heads=3, num_experts=7, num_experts_per_tok=2,
      moe_intermediate_size=30, norm_topk_prob=True, use_sliding_window=True, sliding_window=8, max_window_layers=1),
  "qwen3_moe-yarn": v("qwen3_moe", **QWEN, head_dim=32, num_key_value_heads=1, num_experts=9, num_experts_per_tok=3, moe_intermediate_size=30,
      norm_topk_prob=True, rope_parameters=dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=64)),
  "qwen3_moe-linear": v("qwen3_moe", **{**QWEN, "mlp_only_layers": [1]}, head_dim=18, num_key_value_heads=1, num_experts=9, num_experts_per_tok=3,
      moe_intermediate_size=30, norm_topk_prob=False, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
  "mixtral-window": v("mixtral", hidden_size=60, num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=1, intermediate_size=50, sliding_window=8),
  "olmoe-odd": v("olmoe", hidden_size=40, num_attention_heads=5, num_key_value_heads=1, num_experts=9, num_experts_per_tok=2, intermediate_size=26,
      norm_topk_prob=True, tie_word_embeddings=True, clip_qkv=0.7),
}

if __name__ == "__main__":
    goldens.torch.set_num_threads(1)
    goldens.LENGTH.update({name: 70 for name in VARIANTS})
    os.makedirs(sys.argv[1], exist_ok=True)
    for i, (name, config) in enumerate(VARIANTS.items()):
        goldens.make(name, config, sys.argv[1], 100 + i)
