"""Deform an image, represent it layer by layer, measure the distance."""
