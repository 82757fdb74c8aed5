"""An adapter on disk: its own file and page, and the layouts of PEFT and diffusers."""
