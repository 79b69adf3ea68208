"""Crystal phases: lattice, symmetry, reflections, structures, and when an answer is right."""
