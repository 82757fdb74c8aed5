"""What is known of a model and of this machine before anything is trained or generated with them."""
