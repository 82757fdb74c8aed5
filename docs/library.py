"""The package as a library, cell by cell: recordings, health, a short training, sound, scores. Runs as it stands, on a CPU.

Open it in an editor that knows `# %%` cells, or run `python docs/library.py` in an empty folder with the toy model in MODEL.
"""

# %% Some recordings: a folder for each class, as anybody has them
from pathlib import Path

import torch
from lightning import Trainer

import audioldm_lit as al

MODEL, SECONDS = "checkpoints/audioldm-nano", 0.64
generator = torch.Generator().manual_seed(0)
for name, decay in (("hiss", 1.0), ("click", 20.0)):
    Path("recordings", name).mkdir(parents=True, exist_ok=True)
    for take in range(6):
        fading = torch.exp(-(decay + take) * torch.arange(10_240) / 16_000)
        al.write(f"recordings/{name}/{take}.wav", 0.2 * fading * torch.randn(10_240, generator=generator), 16_000)

# %% What is wrong with them? Whatever stops training is an InputError, which says how to mend it
sounds = al.Folder("recordings", duration=SECONDS, batch_size=4, shots=2)
checkup = al.prepare(sounds, out="health", backbone=MODEL)
print([finding.kind for finding in checkup.findings])

# %% The data module works without a trainer
sounds.setup("fit")
batch = next(iter(sounds.val_dataloader()))
print(batch["caption"], batch["waveform"].shape)

# %% Train; the model and the data set are Lightning's, and work with any Trainer
model = al.LitAudioLDM(backbone=MODEL, sampler=al.Sampler(num_inference_steps=2), warmup_steps=1, cache_dir="cache")
trainer = Trainer(max_steps=2, val_check_interval=2, check_val_every_n_epoch=None, accelerator="cpu", logger=False,
                  enable_progress_bar=False, default_root_dir="training")  # fmt: skip
trainer.fit(model, datamodule=sounds)
trainer.save_checkpoint("trained.ckpt")

# %% Load it again anywhere, without trainer or data, and listen
again = al.LitAudioLDM.load_from_checkpoint("trained.ckpt")
heard = again.generate_from(["hiss", "click"], seconds=SECONDS)
al.write("hiss.wav", heard[0], again.backbone.sample_rate)

# %% Or many clips, in a folder that goes on where it was ended
made = al.generate(["hiss", "click"], out="generated", backbone=MODEL, num_candidates=3, sampler=al.Sampler(num_inference_steps=2))
print([clip["file"] for clip in made["clips"]])

# %% Metrics are torchmetrics: on features of your own ...
distance = al.FrechetDistance()
distance.update(torch.randn(40, 4, generator=generator), torch.randn(50, 4, generator=generator))
figure, axes = distance.plot()

# %% ... or on waveforms, with an extractor
spectral = al.LogSpectralDistance()
spectral.update(heard, batch["waveform"][:2], sample_rate=16_000)
print(float(distance.compute()), float(spectral.compute()))
