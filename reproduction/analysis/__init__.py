"""From records to claims and curves."""
