"""What the trials say: tidy frames in, frames, fits and a report out. Imports nothing by itself."""
