"""Small layers of every kind, for the tests of tinyseg.bench."""

from tinyseg.bench.layers import Layer

LAYERS = [
    Layer.of(in_channels=4, out_channels=6, input_size=7, kernel_size=3, padding=1),
    Layer.of(in_channels=4, out_channels=6, input_size=(7, 9), kernel_size=(3, 2), padding=(1, 0), stride=2, groups=2),
    Layer.of(in_channels=2, out_channels=3, input_size=9, kernel_size=3, padding=4, dilation=4, batch=2),
    Layer.of(in_channels=4, out_channels=4, input_size=9, kernel_size=3, padding=1, groups=4),
    Layer.of(operation="conv_transpose2d", in_channels=4, out_channels=6, input_size=5, kernel_size=4, stride=2,
             padding=1, groups=2),
    Layer.of(operation="conv_transpose2d", in_channels=3, out_channels=2, input_size=(3, 4), kernel_size=3, stride=3,
             output_padding=(1, 2), batch=2),
    Layer.of(operation="max_pool2d", in_channels=3, input_size=7, kernel_size=3, stride=2, padding=1, ceil_mode=True),
    Layer.of(operation="avg_pool2d", in_channels=3, input_size=8, kernel_size=3, stride=2, padding=1, ceil_mode=True,
             count_include_pad=False),
]
