"""Encoders: from tiles of a slide to features, one file a kind (``base`` has the contract and the registry)."""

from restain.her2.encoders.base import ENCODERS, Encode, Encoder, Field, make_encoder, register_encoder
from restain.her2.encoders.stain_space import Stain

__all__ = ["ENCODERS", "Encode", "Encoder", "Field", "Stain", "make_encoder", "register_encoder"]
