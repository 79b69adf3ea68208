"""From Bragg peaks to an orientation map."""
