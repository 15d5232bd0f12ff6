"""Pictures of results: fields, meshes, points, parity plots, map projections."""
