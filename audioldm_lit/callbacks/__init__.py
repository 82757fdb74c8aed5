"""What happens beside the training: listening, and the result at the end."""
