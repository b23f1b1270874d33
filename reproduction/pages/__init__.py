"""Figures, tables and the pages of the book."""
