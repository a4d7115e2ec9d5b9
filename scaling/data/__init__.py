"""Images for colourization: where they come from, their palette, prepared once and cached."""
