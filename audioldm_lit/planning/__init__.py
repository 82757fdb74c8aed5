"""What a run would take, told from a rehearsal: the same run on a few clips, for ten steps, sampled in as few passes as can be."""
