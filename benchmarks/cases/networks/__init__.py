"""Cases of whole networks: steps of training beside those of peers."""
