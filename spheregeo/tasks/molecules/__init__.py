"""Jobs on molecules: regression of properties, energies and forces, an ASE calculator."""
