"""The yardstick net, for scripts in this folder."""

from tinyseg.bench.torch_unet import UNet

__all__ = ["UNet"]
