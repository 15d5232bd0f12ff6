"""Global fields in files with coordinates: which variable is which axis, in which unit; points off a lat-lon grid."""
