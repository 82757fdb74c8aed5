"""The real component classes at the smallest useful width, with random weights: what every fast test runs on."""

from transformers import RobertaTokenizer

from audioldm_lit.backbone import Backbone

WIDTHS = [32, 64]
CONFIGS = {
    "unet": {
        "sample_size": 16, "in_channels": 8, "out_channels": 8, "layers_per_block": 1, "norm_num_groups": 8,
        "block_out_channels": WIDTHS, "cross_attention_dim": WIDTHS, "attention_head_dim": 4,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 32, "class_embeddings_concat": True,
    },
    "vae": {
        "in_channels": 1, "out_channels": 1, "latent_channels": 8, "layers_per_block": 1, "norm_num_groups": 4,
        "block_out_channels": [8, 8, 8], "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
        "mid_block_add_attention": False, "sample_size": 64, "scaling_factor": 0.5,
    },
    "text_encoder": {
        "vocab_size": 261, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "projection_dim": 32, "max_position_embeddings": 130, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    },
    "vocoder": {
        "model_in_dim": 64, "sampling_rate": 16000, "upsample_initial_channel": 32, "upsample_rates": [5, 4, 2, 2, 2],
        "upsample_kernel_sizes": [16, 16, 8, 4, 4], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]],
        "normalize_before": False, "initializer_range": 0.1,
    },
    "audio_encoder": {
        "spec_size": 256, "window_size": 8, "num_mel_bins": 64, "patch_embeds_hidden_size": 8, "hidden_size": 64,
        "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "projection_dim": 32, "enable_fusion": False,
    },
    "feature_extractor": {
        "sampling_rate": 16000, "hop_length": 160, "max_length_s": 5, "frequency_min": 50, "frequency_max": 8000,
        "truncation": "rand_trunc", "padding": "repeatpad",
    },
    "scheduler": {
        "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    },
}  # fmt: skip


def tokenizer() -> RobertaTokenizer:
    """A byte-level tokenizer without merges: every byte is a token."""
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=128)


def backbone(seed: int = 0) -> Backbone:
    """A tiny AudioLDM with both CLAP towers."""
    return Backbone.build(CONFIGS, tokenizer(), seed=seed)
