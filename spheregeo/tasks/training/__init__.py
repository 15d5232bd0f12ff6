"""What happens around a training step: callbacks, averaged weights, batch-norm statistics."""
