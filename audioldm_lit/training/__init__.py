"""What training needs beside its objective: cache, averages of weights, checks, held-out loss, loggers."""
