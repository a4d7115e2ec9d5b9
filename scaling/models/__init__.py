"""Networks of any size: colourization, what normalises them, and what they count."""
