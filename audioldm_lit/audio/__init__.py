"""Sound: reading and writing files, resampling, the log-mel front end and pictures of it."""
