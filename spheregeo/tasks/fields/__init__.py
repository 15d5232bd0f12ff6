"""Fields to fields: one step of prediction, roll-outs, scores by lead time, files."""
