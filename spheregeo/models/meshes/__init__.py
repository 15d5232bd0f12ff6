"""Networks for tangent fields on triangle meshes."""
