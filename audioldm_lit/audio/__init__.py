"""Sound itself: reading and writing files, resampling, the log-mel front end, pictures of it."""
