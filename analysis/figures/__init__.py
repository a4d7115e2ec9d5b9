"""What figures share: their look, axes, colours and series, and plots of several topics."""
