"""A generator of furnished rooms seen by a 360° camera: scene, furniture, ray casting."""
