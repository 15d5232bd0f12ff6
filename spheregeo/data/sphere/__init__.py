"""Panoramas and fields on the sphere: folders, generated rooms and glyphs, global fields, digits."""
