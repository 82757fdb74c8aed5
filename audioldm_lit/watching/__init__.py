"""A model in use: do new recordings still sound like what it was trained on, and is a newer model better?"""
