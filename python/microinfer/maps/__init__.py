"""The orientation map: its arrays, files, exports and pictures."""
