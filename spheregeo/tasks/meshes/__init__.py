"""Jobs on triangle meshes: classification, correspondence."""
