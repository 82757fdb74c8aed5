"""Health of a data set: what is wrong with it before anything is trained on it."""
