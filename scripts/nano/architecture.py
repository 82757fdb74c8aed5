"""Shape of the nano model: the component classes of AudioLDM (Liu et al. 2023, arXiv 2301.12503) at toy width.

Every constant that the published model fixes by its front end (16 kHz, hop 160, 64 mel bins, 8 latent channels, factor 4,
noise schedule) is kept; only widths and depths shrink, and the native duration is 5.12 s.
"""

import json
from collections.abc import Sequence

from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizer

SAMPLE_RATE = 16_000  # Hz
WINDOW = 81_920  # samples: 5.12 s, 512 mel frames, 128 latent steps
VOCABULARY = 800  # tokens, byte alphabet and specials included
EMBEDDING = 128  # width of the space both CLAP towers project into
UNET_WIDTHS = [32, 64, 128]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # in the order of Roberta's own vocabulary

CONFIGS = {
    "unet": {
        "sample_size": 128, "in_channels": 8, "out_channels": 8, "layers_per_block": 1, "norm_num_groups": 8,
        # No `encoder_hidden_states` ever arrives, so the second attention of each block is self-attention of this width.
        "block_out_channels": UNET_WIDTHS, "cross_attention_dim": UNET_WIDTHS, "attention_head_dim": 4,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": EMBEDDING,
        "class_embeddings_concat": True,
    },
    "vae": {
        "in_channels": 1, "out_channels": 1, "latent_channels": 8, "layers_per_block": 1, "norm_num_groups": 8,
        "block_out_channels": [32, 64, 128], "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3, "mid_block_add_attention": False, "sample_size": 512, "scaling_factor": 1.0,
    },
    "text_encoder": {
        "vocab_size": VOCABULARY, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
        "projection_dim": EMBEDDING, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    },
    "vocoder": {
        "architectures": ["InverseSTFTVocoder"], "model_in_dim": 64, "sampling_rate": SAMPLE_RATE, "hop_length": 160,
        "frame_length": 1024, "hidden_size": 256, "num_layers": 8,
    },
    "audio_encoder": {
        "spec_size": 256, "patch_size": 8, "patch_stride": [8, 8], "window_size": 4, "num_mel_bins": 64, "patch_embeds_hidden_size": 32,
        "hidden_size": 256, "depths": [1, 1, 2, 1], "num_attention_heads": [2, 4, 8, 8], "projection_dim": EMBEDDING, "enable_fusion": False,
    },
    "feature_extractor": {
        "sampling_rate": SAMPLE_RATE, "hop_length": 160, "max_length_s": 5, "frequency_min": 50, "frequency_max": 8000,
        "truncation": "rand_trunc", "padding": "repeatpad",
    },
    "scheduler": {
        "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    },
}  # fmt: skip


def train_tokenizer(captions: Sequence[str]) -> RobertaTokenizer:
    """Learn byte-level BPE merges on `captions`; every other text still has tokens, byte by byte."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(captions, vocab_size=VOCABULARY, min_frequency=2, special_tokens=SPECIALS, show_progress=False)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    # With the prefix space "rain" at the start of a prompt and " rain" inside it are the same token.
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=merges, model_max_length=64, add_prefix_space=True)
