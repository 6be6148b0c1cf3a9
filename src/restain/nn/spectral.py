"""Spectral normalisation of whole networks (Miyato 2018)."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

_REFERENCE = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def normalise_spectra(network: nn.Module) -> None:
    """Divide the kernel of every convolution by its largest singular value, in place.

    One power iteration a forward pass in train mode; in eval mode the stored vectors are used. Initialise before.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            spectral_norm(layer)


def reference_spectral(key: str) -> str:
    """A state-dict key as torch's older spectral norm, which the released codes use, writes it."""
    for ours, theirs in _REFERENCE.items():
        key = key.replace(ours, theirs)
    return key
