"""Log-mel -> waveform: networks beside the published models' own, called as those are."""
