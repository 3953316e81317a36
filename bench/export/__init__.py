"""What leaves a finished run: its encoder as a folder with a card."""
