"""How much of a training clip is in a generated one, and how much makes it a copy.

Works on the rows of `audioldm_lit.metrics.extractors.fingerprint.Fingerprint`, or any other that are zero for silence. Letters in
shapes: A generated clips, B training clips, F frames, M numbers a frame.
"""

import torch
from torch import Tensor

from audioldm_lit.errors import InputError

CHUNK = 100  # clips of either side at a time: some 100 MB for clips of 5 s
SOUNDING = 0.01  # of the energy of a training clip's strongest frame; quieter frames are no part of what may be copied
SHARE = 0.25  # of a generated clip's energy: a stretch with less counts as this much, else its faintest corner could match
DEVIATIONS = 2.5  # on Fisher's z scale, above the mean of the held-out clips
UNALIKE = 0.55  # most independent recordings stay below, short synthesised effects with 0.51; drum hits do not, held-out clips tell
CERTAIN = 0.95  # nothing but a copy lies above


def shift_tolerant_similarity(generated: Tensor, training: Tensor, max_shift_frames: int = 75) -> Tensor:
    """Cosine between each training clip and the stretch of each generated clip beneath it, at the best shift.

    A normalised cross-correlation (Lewis, Fast Normalized Cross-Correlation, 1995) over time, summed over M. What the generated
    clip holds before and after the stretch does not count, as long as the stretch has a quarter of the clip's energy. Not
    symmetric: the training clip is sought in the generated one, and what is cut off from it lowers the value.

    Args:
        generated: (A, F, M) rows.
        training: (B, F', M) rows; F' may differ from F, and zero rows at either end of a clip change nothing.
        max_shift_frames: Largest shift tried in either direction; the default is 1.5 s of 20 ms frames.

    Returns:
        (A, B) float32: 1 for a copy, about 0.05 to 0.3 for two recordings of one thing, 0 where either clip is silent.

    Raises:
        InputError: If a side has no clips, the two have different M, or the shift is negative.
    """
    if not len(generated) or not len(training):
        problem = f"are {len(generated)} and {len(training)}"
        raise InputError("generated and training clips", problem, "give at least one of each")
    if generated.shape[2] != training.shape[2]:
        problem = f"have {generated.shape[2]} and {training.shape[2]} numbers"
        raise InputError("rows of generated and training clips", problem, "compute both with one extractor")
    if max_shift_frames < 0:
        raise InputError("max_shift_frames", f"is {max_shift_frames}", "give 0 or more")
    columns = []
    for wanted in training.float().split(CHUNK):
        energy = wanted.square().sum(dim=2, keepdim=True)  # (B, F', 1)
        sounding = (energy > SOUNDING * energy.amax(dim=1, keepdim=True)).float()
        wanted = _unit(wanted * sounding)
        blocks = []
        for clips in generated.float().split(CHUNK):
            clips = _unit(clips)
            match = _correlate(clips, wanted, max_shift_frames)  # (A, B, shifts)
            beneath = _correlate(clips.square().sum(dim=2, keepdim=True), sounding, max_shift_frames)
            blocks.append((match / beneath.clamp(min=SHARE).sqrt()).amax(dim=2))
        columns.append(torch.cat(blocks))
    return torch.cat(columns, dim=1)


def near_copy_threshold(held_out: Tensor) -> Tensor:
    """Similarity above which a generated clip is a near-copy of a training clip, a float64 scalar in [0.55, 0.95].

    Clips that were never trained on show how alike independent recordings of these sounds are. On Fisher's z scale (Fisher 1915,
    artanh of a correlation) the bound lies 2.5 standard deviations above their mean, a little more where they are few. It is kept
    between 0.55, which independent recordings hardly reach, and 0.95, which only a copy exceeds. Held-out clips
    above 0.95 are themselves copies of training clips and are left out.

    Args:
        held_out: (N,) similarity of each held-out clip to its nearest training clip. With fewer than two, the result is 0.55.
    """
    scores = held_out.double()
    z = scores[scores < CERTAIN].atanh()
    if len(z) < 2:
        return scores.new_tensor(UNALIKE)
    bound = z.mean() + DEVIATIONS * z.std() * (1 + 1 / len(z)) ** 0.5
    return bound.tanh().clamp(UNALIKE, CERTAIN)


def _unit(rows: Tensor) -> Tensor:
    """Clips (A, F, M) scaled to energy 1; silence stays silence."""
    energy = rows.double().square().sum(dim=(1, 2), keepdim=True)
    return rows * energy.clamp(min=torch.finfo().tiny).rsqrt().float()


def _correlate(a: Tensor, b: Tensor, max_shift: int) -> Tensor:
    """Sum of a[t + shift] * b[t] over frames and M for shifts -max_shift ... max_shift; (A, F, M), (B, F', M) -> (A, B, shifts)."""
    longest = max(a.shape[1], b.shape[1])
    max_shift = min(max_shift, longest - 1)
    length = 2 * ((longest + max_shift + 1) // 2)  # what wraps around falls on shifts that are not looked at
    spectra = [torch.fft.rfft(side, n=length, dim=1).transpose(0, 1) for side in (a, b)]  # (K, clips, M)
    product = spectra[0] @ spectra[1].mH  # (K, A, B)
    correlation = torch.fft.irfft(product.permute(1, 2, 0).contiguous(), n=length)
    return torch.cat([correlation[..., length - max_shift :], correlation[..., : max_shift + 1]], dim=2)
