"""Networks that serve clouds and molecules alike, and what all networks of points in space share."""
