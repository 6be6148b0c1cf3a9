"""The published H&E-to-IHC stainers: one method, one file, found by name through the registry."""
