"""Systems that repeat themselves: generated slabs with adsorbates, ASE's databases, the layout of the Open Catalyst sets."""
