"""Network blocks that methods share: generators, discriminators, normalisations, initialisation."""
