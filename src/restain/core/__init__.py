"""What every other package stands on: errors, atomic files, items, registry, run folders, progress, JSON output."""
