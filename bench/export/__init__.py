"""What leaves a finished run, and what goes into one: an encoder as a folder with a card, views as a picture."""
